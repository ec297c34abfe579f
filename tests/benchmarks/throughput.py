"""From the topic into the table: the sink beside every other way, and which limit it meets.

Contenders run one after the other within a round, so that a machine that drifts drifts for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

from tests.benchmarks.contenders import CONSUME, CONTENDERS, DESERIALIZER, FASTAVRO, SINK, TABLE_1, TABLE_2
from tests.benchmarks.contending import contend
from tests.benchmarks.figures import Run, Spread, ratios
from tests.benchmarks.filling import fill
from tests.benchmarks.ground import Ground
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, Target, at_least
from tests.benchmarks.workloads import WORKLOADS

ORDER = (SINK, FASTAVRO, DESERIALIZER, TABLE_1, TABLE_2, CONSUME)
TARGETS = {FASTAVRO: 5.0, DESERIALIZER: 9.0, "the better Kafka table": 5.0}
LIMIT_SHARE = 0.8
LIMIT_CORES = 2
_PROCESSES = ("contender", "kafka", "warehouse")
_STEPS = MappingProxyType(
    {
        "poll": "the loop",
        "blocked": "the loop",
        "confirm": "the crew of 3",
        "examine": "the crew of 3",
        "insert": "the crew of 3, splice within",
        "splice": "the crew of 3",
        "commit": "the crew of 3",
    }
)
_HOW = """Each contender runs in a process of its own, the rounds interleaved; medians stand here, ratios are the medians of
the ratios within each round. All read the same topic of four partitions with the same pinned fetch settings in batches of
100,000 rows. The clock runs from the first record in hand to the clean answer for the last row, so joining the group is in no
figure. The engine's Kafka table fetches with its own settings and shows its rows in blocks of 20,000, so its clock runs from
the first block that shows; broker apart, all its CPU is in the contender's figure. The slow ones are given fewer rows of the
topic: rates are rates. Peers insert at least once into a plain MergeTree table; the sink, exactly once, into the tables that
carry the fence and the coordinates. CPU is that of each process in the same time; the limit is 2 cores ÷ the CPU of a row
over all processes. "others" is the CPU that anything else on the machine took: with more than a few hundredths of a core the
figures are of no use."""


@dataclass(frozen=True, slots=True)
class Extent:
    rows: Mapping[str, int]
    rounds: int


FULL = Extent({"six": 1_500_000, "flat": 1_500_000, "nested": 300_000}, 3)
QUICK = Extent({"six": 20_000, "flat": 20_000, "nested": 5_000}, 1)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent = QUICK if asked.quick else FULL
    return {name: _measure(ground, name, rows, extent.rounds) for name, rows in extent.rows.items()}


def _measure(ground: Ground, name: str, rows: int, rounds: int) -> dict[str, Any]:
    workload = WORKLOADS[name]
    runs: dict[str, list[dict[str, Any]]] = {contender: [] for contender in ORDER}
    with ground.place(f"throughput_{name}") as place:
        ground.say(f"{name}: writing {rows:,} records")
        fill(place.variables, workload, rows)
        for turn in range(rounds):
            for contender in ORDER:
                run = contend(place, contender, workload, rows)
                runs[contender].append(run.as_json())
                ground.say(f"{name} {turn + 1}/{rounds} {contender}: {run.rows_per_s:,.0f} rows/s")
    return {"rows": rows, "runs": runs}


def sink_rows_per_s(measured: Mapping[str, Any], workload: str) -> float:
    """The median."""
    return median(run.rows_per_s for run in _runs(measured[workload])[SINK])


def present(measured: Mapping[str, Any]) -> Section:
    tables, targets = [], []
    for name, found in measured.items():
        runs = _runs(found)
        tables += [_rates(name, found["rows"], runs), _limits(runs[SINK])]
        targets += _targets(name, runs)
    return Section("From the topic into the table", _HOW, tables, targets)


def _runs(found: Mapping[str, Any]) -> dict[str, list[Run]]:
    return {name: [Run(**run) for run in runs] for name, runs in found["runs"].items()}


def _rates(name: str, rows: int, runs: Mapping[str, list[Run]]) -> Table:
    title = f"{name}: {rows:,} {WORKLOADS[name].says}"
    header = (title, "rows/s", "least–most", *(f"{process} CPU µs/row" for process in _PROCESSES), "others, cores", "sink is … ×")
    return Table(header, [_rate(contender, own, runs[SINK]) for contender, own in runs.items()])


def _rate(contender: str, own: list[Run], sink: list[Run]) -> tuple[str, ...]:
    rate = Spread.of([run.rows_per_s for run in own])
    cpu = [f"{median(run.cpu_us_per_row(process) for run in own):.1f}" for process in _PROCESSES]
    others = f"{max(run.others_cores for run in own):.2f}"
    says = CONTENDERS[contender].says
    return (says, f"{rate.median:,.0f}", f"{rate.least:,.0f}–{rate.most:,.0f}", *cpu, others, f"{median(_times(sink, own)):.2f}")


def _limits(sink: list[Run]) -> Table:
    """Which limit binds: how busy the cores were, and where the sink's own time went."""
    all_us = median(run.all_cpu_us_per_row for run in sink)
    facts = [
        ("CPU µs/row, all processes", f"{all_us:.2f}"),
        (f"{LIMIT_CORES} cores ÷ that, rows/s", f"{LIMIT_CORES / all_us * 1e6:,.0f}"),
        ("share of it reached", f"{_limit_share(sink):.2f}"),
        ("cores busy", f"{median(run.busy_cores for run in sink):.2f}"),
    ]
    shares = [(f"{step}: {where}, share of the run", f"{_spent_share(sink, step):.2f}") for step, where in _STEPS.items()]
    return Table(("the sink, its limit and where its time goes", "figure"), [*facts, *shares])


def _spent_share(sink: list[Run], step: str) -> float:
    return median(run.spent_s.get(step, 0.0) / run.seconds for run in sink)


def _limit_share(sink: list[Run]) -> float:
    return median(run.busy_cores for run in sink) / LIMIT_CORES


def _times(sink: list[Run], other: list[Run]) -> list[float]:
    return ratios([run.rows_per_s for run in sink], [run.rows_per_s for run in other])


def _targets(name: str, runs: Mapping[str, list[Run]]) -> list[Target]:
    tables = (runs[TABLE_1], runs[TABLE_2])
    better = max(tables, key=lambda found: median(run.rows_per_s for run in found))
    rivals = {**runs, "the better Kafka table": better}
    times = [
        at_least(f"{name}: × {rival}", wanted, median(_times(runs[SINK], rivals[rival]))) for rival, wanted in TARGETS.items()
    ]
    return [*times, at_least(f"{name}: share of the limit of {LIMIT_CORES} cores", LIMIT_SHARE, _limit_share(runs[SINK]), "")]
