"""What every scenario is: a name, how its arena is furnished, a plan drawn from a seed, and the run of that plan."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.faults.arena import Arena
from tests.faults.plan import Fault
from tests.faults.records import Mix


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a scenario is run: `points` faults, and `outage_s` for whatever is stopped or stormed."""

    points: int
    outage_s: float


Plan = list[Fault]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`shows` says in words what is being shown. `second_line` is set where copies in base tables are what is provoked."""

    name: str
    shows: str
    plan: Callable[[Random, Extent], Plan]
    run: Callable[[Arena, Plan, Extent], None]
    points: int
    outage_s: float = 0.0
    mix: Mix = field(default_factory=Mix)
    sql: tuple[str, ...] = ()
    """What makes the warehouse worse than it is, and what makes it well again before the last sink runs."""
    healing_sql: tuple[str, ...] = ()
    second_line: bool = False
    pause_limit_s: float | None = None
    batch_rows: int = 60
    protocols: tuple[str, ...] = ("classic",)

    def extent(self, share: float) -> Extent:
        """`share` of the usual extent: 1 is what `make faults` runs."""
        return Extent(max(1, round(self.points * share)), self.outage_s * share)
