"""The archive beside Kafka: how fast a run is filled from either, how fast records are archived, and what they take there."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from stream_processors.archive.config import ARCHIVE_URL
from tests.benchmarks.contenders import ARCHIVE, REPLAY
from tests.benchmarks.contending import contend
from tests.benchmarks.figures import Run, Spread, ratios
from tests.benchmarks.filling import fill
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, Target, at_least
from tests.benchmarks.replay_contender import ARCHIVE_WORKERS
from tests.benchmarks.workloads import WORKLOADS, Workload

TIMES_MIN = 2.0
ARCHIVE_LIMIT_S = 600
_HOW = f"""A topic of four partitions is archived into a directory by `tailrace archive run`, then replayed, in turn, from Kafka
(three inserts at once, batches of 100,000 rows) and from the archive ({ARCHIVE_WORKERS} inserts at once, file by file), each in a
process of its own into a run's table. The clock runs from the first record or the first file in hand to the clean answer for
the last row; ratios are the medians of the ratios within each round. From the archive nearly all of the time is the
warehouse's own: its CPU a row is the floor, and 2 cores ÷ all CPU a row the limit that the ratio can reach here."""


@dataclass(frozen=True, slots=True)
class Extent:
    rows: Mapping[str, int]
    rounds: int


FULL = Extent({"six": 1_500_000, "flat": 1_500_000, "nested": 300_000}, 3)
QUICK = Extent({"six": 20_000, "flat": 20_000, "nested": 5_000}, 1)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent = QUICK if asked.quick else FULL
    return {name: _measure(ground, WORKLOADS[name], rows, extent.rounds) for name, rows in extent.rows.items()}


def _measure(ground: Ground, workload: Workload, rows: int, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {REPLAY: [], ARCHIVE: []}
    with ground.place(f"archive_{workload.name}") as bare, tempfile.TemporaryDirectory(prefix="tailrace-bench-") as home:
        place = Place({**bare.variables, ARCHIVE_URL: f"file://{home}/archive"})
        ground.say(f"archive: writing {rows:,} records, {workload.name}")
        fill(place.variables, workload, rows)
        stored = _archived(place, workload)
        for turn in range(rounds):
            for contender, found in runs.items():
                run = contend(place, contender, workload, rows)
                found.append(run.as_json())
                ground.say(f"{workload.name} {turn + 1}/{rounds} {contender}: {run.rows_per_s:,.0f} rows/s")
    return {"rows": rows, "stored": stored, "runs": runs}


def _archived(place: Place, workload: Workload) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "archive", "run", "--topic", workload.topic.name, "--json"],
        env={**os.environ, **place.variables},
        capture_output=True,
        text=True,
        timeout=ARCHIVE_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the archiver failed:\n{done.stderr}")
    stored: dict[str, float] = json.loads(done.stdout)
    return stored


def present(measured: Mapping[str, Any]) -> Section:
    tables, targets = [], []
    for name, found in measured.items():
        runs = {contender: [Run(**run) for run in each] for contender, each in found["runs"].items()}
        tables += [_rates(name, found["rows"], runs), _stored(found["stored"])]
        targets.append(_target(name, runs))
    return Section("From the archive", _HOW, tables, targets)


def _times(runs: Mapping[str, list[Run]]) -> float:
    return median(ratios([run.rows_per_s for run in runs[ARCHIVE]], [run.rows_per_s for run in runs[REPLAY]]))


def _rates(name: str, rows: int, runs: Mapping[str, list[Run]]) -> Table:
    header = ("rows/s", "least–most", "run CPU µs/row", "kafka CPU µs/row", "warehouse CPU µs/row", "2 cores ÷ CPU, rows/s")
    return Table((f"{name}: {rows:,} {WORKLOADS[name].says}", *header), [_rate(way, own) for way, own in runs.items()])


def _rate(way: str, own: list[Run]) -> tuple[str, ...]:
    rate = Spread.of([run.rows_per_s for run in own])
    cpu = [f"{median(run.cpu_us_per_row(process) for run in own):.1f}" for process in ("contender", "kafka", "warehouse")]
    limit = 2e6 / median(run.all_cpu_us_per_row for run in own)
    return (
        f"from {'the archive' if way == ARCHIVE else 'Kafka'}",
        f"{rate.median:,.0f}",
        f"{rate.least:,.0f}–{rate.most:,.0f}",
        *cpu,
        f"{limit:,.0f}",
    )


def _stored(stored: Mapping[str, float]) -> Table:
    return Table(
        ("archived, start of the process and schemas included", "figure"),
        [
            ("records/s", f"{stored['rows'] / stored['seconds']:,.0f}"),
            ("bytes a record", f"{stored['bytes'] / stored['rows']:.1f}"),
            ("files", f"{stored['files']:,.0f}"),
        ],
    )


def _target(name: str, runs: Mapping[str, list[Run]]) -> Target:
    return at_least(f"{name}: from the archive × from Kafka", TIMES_MIN, _times(runs))
