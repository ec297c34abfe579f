"""A replay beside the sink: how fast a run is filled, how long a plan takes, and what a run that yields costs the live stream."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from threading import Event
from typing import Any, NamedTuple

from schemas.topics import INTERACTIONS
from stream_processors.replay.config import ReplayConfig
from tests.benchmarks.contenders import REPLAY, SINK
from tests.benchmarks.contending import contend
from tests.benchmarks.figures import Run, Spread, percentile, ratios
from tests.benchmarks.filling import fill
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_least, at_most
from tests.benchmarks.probes import Probes, latencies
from tests.benchmarks.replay_contender import planned
from tests.benchmarks.workloads import WORKLOADS
from tests.waiting import eventually

RATE_SHARE_MIN = 0.9
PLAN_S_MAX = 5.0
LIVE_TIMES_MAX = 1.5
LIVE_RECORDS_PER_S = 2_000
START_LIMIT_S = 120
_WORKLOAD = WORKLOADS["flat"]
_PLANS = 5
_HOW = f"""The sink and a replay bring the same topic of four partitions in, in turn, each in a process of its own, with batches
of 100,000 rows and three inserts at once; the clock runs from the first record in hand to the clean answer for the last row, and
ratios are the medians of the ratios within each round. A plan is timed from its parts to the saved manifest, {_PLANS} times;
it asks for metadata and reads 200 records a partition, whatever the topic holds. What a run with --yield costs the live stream:
{LIVE_RECORDS_PER_S:,} records a second go through `tailrace sink`, and probes among them are looked for, in blocks
without and with a run of the whole topic beside, in turn."""


@dataclass(frozen=True, slots=True)
class Extent:
    rows: int
    rounds: int
    block_s: float
    blocks: int


FULL = Extent(1_500_000, 3, 20.0, 3)
QUICK = Extent(20_000, 1, 3.0, 1)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent = QUICK if asked.quick else FULL
    runs: dict[str, list[dict[str, Any]]] = {SINK: [], REPLAY: []}
    with ground.place("replay") as place:
        ground.say(f"replay: writing {extent.rows:,} records")
        fill(place.variables, _WORKLOAD, extent.rows)
        for turn in range(extent.rounds):
            for contender in (SINK, REPLAY):
                run = contend(place, contender, _WORKLOAD, extent.rows)
                runs[contender].append(run.as_json())
                ground.say(f"replay {turn + 1}/{extent.rounds} {contender}: {run.rows_per_s:,.0f} rows/s")
        plans_s = [_plan_s(place) for _ in range(_PLANS)]
    with ground.place("replay_yield") as place:
        fill(place.variables, _WORKLOAD, extent.rows)
        yielding = _yielding(ground, place, extent)
    return {"rows": extent.rows, "runs": runs, "plans_s": plans_s, **yielding}


def _plan_s(place: Place) -> float:
    began_s = time.perf_counter()
    planned(ReplayConfig.from_environment(place.variables), INTERACTIONS)
    return time.perf_counter() - began_s


def _yielding(ground: Ground, place: Place, extent: Extent) -> dict[str, Any]:
    """Blocks of probing, without a run and with one in turn. A run that is done early ends its block."""
    config, probes, blocks = ReplayConfig.from_environment(place.variables), Probes(place), list[_Block]()
    with ExitStack() as running:
        running.enter_context(place.running("deploy.cli", "sink"))
        assert eventually(lambda: place.count(_WORKLOAD.table) >= extent.rows, START_LIMIT_S), "the sink has caught up"
        running.enter_context(place.running("tests.benchmarks.live", _WORKLOAD.name, str(LIVE_RECORDS_PER_S)))
        with probes.running():
            for turn in range(extent.blocks):
                ground.say(f"replay: live alone and beside a run that yields, {turn + 1}/{extent.blocks}")
                blocks.append(_block(extent.block_s, lambda: True))
                run = planned(config, INTERACTIONS)
                with place.running("deploy.cli", "replay", "run", run.run, "--yield") as process:
                    assert eventually(partial(_begun, place, run.run_table), START_LIMIT_S), "the run has begun"
                    beside = _block(extent.block_s, lambda: process.poll() is None)
                    blocks.append(beside._replace(rows=place.count(run.run_table)))
    found = [
        latencies([probe for probe in probes.sent if block.began_s <= probe.due_s < block.ended_s], probes.seen)
        for block in blocks
    ]
    return {
        "alone_s": [round(each, 4) for block in found[::2] for each in block],
        "beside_s": [round(each, 4) for block in found[1::2] for each in block],
        "rows_beside_per_s": [block.rows / (block.ended_s - block.began_s) for block in blocks[1::2]],
    }


class _Block(NamedTuple):
    began_s: float
    ended_s: float
    rows: int = 0
    """What the run had brought in at its end."""


def _block(seconds: float, goes_on: Callable[[], bool]) -> _Block:
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < seconds and goes_on():
        Event().wait(0.05)
    return _Block(began_s, time.perf_counter())


def _begun(place: Place, table: str) -> bool:
    exists = f"SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = '{table}' AND total_rows > 0"
    return place.count(f"({exists})") == 1


def present(measured: Mapping[str, Any]) -> Section:
    runs = {name: [Run(**run) for run in found] for name, found in measured["runs"].items()}
    share = median(ratios([run.rows_per_s for run in runs[REPLAY]], [run.rows_per_s for run in runs[SINK]]))
    plan_s = max(measured["plans_s"])
    alone_s, beside_s = percentile(measured["alone_s"], 95), percentile(measured["beside_s"], 95)
    rates = [(name, *_rate(found)) for name, found in runs.items()]
    live = [
        ("p95 of live alone, s", f"{alone_s:.3f}"),
        ("p95 of live beside a run with --yield, s", f"{beside_s:.3f}"),
        ("records a second of the run that yields", f"{median(measured['rows_beside_per_s']):,.0f}"),
        ("plans, s, least–most", f"{min(measured['plans_s']):.2f}–{plan_s:.2f}"),
    ]
    return Section(
        "Replaying a topic",
        _HOW,
        [
            Table((f"{measured['rows']:,} {_WORKLOAD.says}", "rows/s", "least–most"), rates),
            Table(("beside live", "figure"), live),
        ],
        [
            at_least("a run × the sink's rate", RATE_SHARE_MIN, share),
            at_most("the slowest plan", PLAN_S_MAX, plan_s, "s"),
            at_most("live p95 beside a run with --yield, × alone", LIVE_TIMES_MAX, beside_s / alone_s, "×"),
        ],
    )


def _rate(found: list[Run]) -> tuple[str, str]:
    rate = Spread.of([run.rows_per_s for run in found])
    return f"{rate.median:,.0f}", f"{rate.least:,.0f}–{rate.most:,.0f}"
