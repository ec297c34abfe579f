"""What a scorecard says, as immutable values. Times are microseconds since 1970, UTC; shares are 0 to 1.

A figure that does not exist is None, and a reason stands beside it; no value is ever NaN or infinite.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from analytics.as_of import AsOf
from analytics.metrics_catalog import Direction
from analytics.moments import Moments
from analytics.statistics.comparison import Detectable, Difference
from schemas.events import Micros


@dataclass(frozen=True, slots=True)
class Definition:
    """One revision of the experiment, as the warehouse has it. `weights` are relative, by arm, in the order of the definition."""

    revision: int
    kind: str
    owner: str
    hypothesis: str
    status: str
    unit_type: str
    surfaces: tuple[str, ...]
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Units are counted under the first arm that answered them; requests are those in which an arm of the experiment decided."""

    units: int = 0
    crossovers: int = 0
    exposed_requests: int = 0
    degraded_requests: int = 0
    interactions_before_exposure: int = 0

    @property
    def degraded_share(self) -> float | None:
        """Of the exposed requests; None where there are none."""
        return self.degraded_requests / self.exposed_requests if self.exposed_requests else None

    def __add__(self, other: "ArmCounts") -> "ArmCounts":
        return ArmCounts(
            self.units + other.units,
            self.crossovers + other.crossovers,
            self.exposed_requests + other.exposed_requests,
            self.degraded_requests + other.degraded_requests,
            self.interactions_before_exposure + other.interactions_before_exposure,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """The units that were first exposed to one arm under one revision. `moments` by metric."""

    revision: int
    arm: str
    counts: ArmCounts
    moments: Mapping[str, Moments]


@dataclass(frozen=True, slots=True)
class TrafficCount:
    """Exposed units and requests of one kind of traffic."""

    traffic: str
    units: int
    exposed_requests: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the figures do not hold, counted within the traffic that was asked for (`other_traffic` apart)."""

    other_traffic: tuple[TrafficCount, ...]
    interactions_before_exposure: int
    duplicate_recommendations: int
    duplicate_interactions: int
    units_never_exposed: int
    """Assigned to an arm that never decided an answer."""
    requests_not_exposed: int
    """Of all units: assigned, but the arm did not decide this answer."""
    events_with_wrong_clocks: int
    """Left out is only their emitter's time, which cannot be right: they count as of when Kafka took them."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """Hints of whether all has arrived, over all traffic. `exposures_emitted` is what the emitters' newest checkpoints count,
    None where no checkpoint names the experiment; an emitter that has not closed may have more under way. Both figures count
    every copy of an event that was sent more than once.
    """

    exposures_emitted: int | None
    exposures_arrived: int
    emitters: int
    emitters_open: int
    newest_arrival_at: Micros | None
    dead_letters: int
    """Records of any topic that the warehouse could not take."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Units by arm against the weights by arm of `revisions`, which share them. `p_value` is None where there is no check, for
    `reason`.
    """

    revisions: tuple[int, ...]
    units: Mapping[str, int]
    expected_shares: Mapping[str, float]
    p_value: float | None
    method: str
    alarm: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Arm:
    """`metric_means` by metric, each in the metric's unit; None where the arm has no unit or the denominator is zero."""

    name: str
    is_control: bool
    counts: ArmCounts
    metric_means: Mapping[str, float | None]


class Reading(StrEnum):
    """What one comparison says, at α 0.05 and not corrected for the others."""

    BETTER = "better"
    WORSE = "worse"
    NOT_SEEN = "no difference seen"
    NONE = "no figure"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Comparison:
    arm: str
    control: str
    difference: Difference
    detectable: Detectable
    reading: Reading


@dataclass(frozen=True, slots=True)
class MetricResult:
    name: str
    title: str
    unit_of_measure: str
    better: Direction
    surface: str | None
    window_hours: int | None
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """`code` is for machines and stays; `text` is for people and may change."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Scorecard:
    """`readable` is False where an alarm forbids to read the comparisons: their verdict is withheld."""

    experiment_id: str
    definition: Definition | None
    """The newest revision that the warehouse has; `revisions_exposed` are those under which units were first exposed."""
    revisions_exposed: tuple[int, ...]
    traffic: str
    control: str | None
    as_of: AsOf
    readable: bool
    arms: tuple[Arm, ...]
    metrics: tuple[MetricResult, ...]
    sample_ratio: tuple[SampleRatio, ...]
    left_out: LeftOut
    completeness: Completeness
    alarms: tuple[Remark, ...]
    caveats: tuple[Remark, ...]

    def comparison(self, metric: str, arm: str) -> Comparison:
        """Raises KeyError where there is no such comparison."""
        for result in self.metrics:
            for comparison in result.comparisons:
                if (result.name, comparison.arm) == (metric, arm):
                    return comparison
        raise KeyError((metric, arm))
