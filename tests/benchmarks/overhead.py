"""What exactly-once costs: the sink beside itself without fence and reconciliation, and beside itself as it is, for the noise.

A round is guarded, unguarded, guarded; every other round goes backwards, so that a drift hits both alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

from tests.benchmarks.contenders import SINK, UNGUARDED
from tests.benchmarks.contending import contend
from tests.benchmarks.figures import Run, Spread, ratios
from tests.benchmarks.filling import fill
from tests.benchmarks.ground import Ground
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_most
from tests.benchmarks.unguarded import UNGUARDED_SQL
from tests.benchmarks.workloads import WORKLOADS

GUARDED, AGAIN = "guarded", "guarded again"
ORDER = (GUARDED, UNGUARDED, AGAIN)
COST_PERCENT_MAX = 2.0
_OWNING = ("ask", "identify", "fence", "drain", "reconcile", "announce")
_HOW = """The same sink, the same topic of flat events, each run in a process of its own. Without guards, the steps fence,
drain, reconcile, announce and the look at the topic's id before an insert are done at once, and the table is a copy whose
columns `_owned` and `_free` are plain constants. A round is guarded, unguarded, guarded (every other one backwards); a figure
is the median over the rounds of what guards add within a round, and the second guarded run beside the first is the noise that
it stands in. The clock starts when the first 200,000 rows are in: by then every partition is owned, so that owning, which
happens once an assignment, is in no rate. Its steps are listed with what they took."""

_FIGURES: Mapping[str, Callable[[Run], float]] = MappingProxyType(
    {"time": lambda run: run.seconds, "CPU of all processes": lambda run: run.all_cpu_us_per_row}
)


@dataclass(frozen=True, slots=True)
class Extent:
    rows: int
    skip: int
    """Rows that are in before the clock starts: by then every partition is owned."""
    rounds: int


FULL = Extent(1_200_000, 200_000, 6)
QUICK = Extent(20_000, 5_000, 1)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent, workload = QUICK if asked.quick else FULL, WORKLOADS["flat"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ORDER}
    with ground.place("overhead") as place, ground.second_database(place, "overhead_unguarded") as bare:
        bare.command(UNGUARDED_SQL.format(table=workload.table))
        ground.say(f"overhead: writing {extent.rows:,} records")
        fill(place.variables, workload, extent.rows)
        for turn in range(extent.rounds):
            for name in ORDER if turn % 2 == 0 else reversed(ORDER):
                on, contender = (bare, UNGUARDED) if name == UNGUARDED else (place, SINK)
                run = contend(on, contender, workload, extent.rows, extent.skip)
                runs[name].append(run.as_json())
                ground.say(f"overhead {turn + 1}/{extent.rounds} {name}: {run.rows_per_s:,.0f} rows/s")
    return {"rows": extent.rows, "runs": runs}


def present(measured: Mapping[str, Any]) -> Section:
    runs = {name: [Run(**run) for run in found] for name, found in measured["runs"].items()}
    costs = {what: _costs(runs, figure) for what, figure in _FIGURES.items()}
    lines = [line for what, (added, noise) in costs.items() for line in (_line(what, added), _line(f"{what}, noise", noise))]
    targets = [
        at_most(f"{what} that exactly once adds", COST_PERCENT_MAX, median(added), "%") for what, (added, _) in costs.items()
    ]
    header = ("what guards add, %", "median", "least–most")
    return Section("What exactly once costs", _HOW, [Table(header, lines), _owning(runs[GUARDED])], targets)


def _costs(runs: Mapping[str, list[Run]], figure: Callable[[Run], float]) -> tuple[list[float], list[float]]:
    """Percent that the guards add in each round, and percent that the second guarded run adds to the first."""
    guarded, bare, again = ([figure(run) for run in runs[name]] for name in ORDER)
    with_guards = [(one + other) / 2 for one, other in zip(guarded, again, strict=True)]
    return _added_percent(with_guards, bare), _added_percent(again, guarded)


def _added_percent(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [(ratio - 1) * 100 for ratio in ratios(above, below)]


def _line(what: str, percents: Sequence[float]) -> tuple[str, ...]:
    spread = Spread.of(percents)
    return what, f"{spread.median:+.2f}", f"{spread.least:+.2f} – {spread.most:+.2f}"


def _owning(runs: Sequence[Run]) -> Table:
    """Of all partitions of the installation together."""
    lines = [(step, f"{median(run.spent_s.get(step, 0.0) for run in runs) * 1000:.0f}") for step in _OWNING]
    return Table(("owning all partitions, once an assignment", "ms"), lines)
