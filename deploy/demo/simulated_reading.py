"""The simulated users' truth beside what their scorecard says. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from analytics.results import Scorecard

METRIC = "click_through_rate"
"""Clicks per answered request."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Clicks to expect of a request, by arm; the difference is that of `arm` from `control`."""

    control: str
    arm: str
    expected: Mapping[str, float]

    @property
    def difference(self) -> float:
        return self.expected[self.arm] - self.expected[self.control]


@dataclass(frozen=True, slots=True)
class SimulatedReading:
    """`covered`: the scorecard's 95 % interval of the difference holds the true one, None where there is no interval."""

    metric: str
    control: str
    arm: str
    expected: Mapping[str, float]
    seen: Mapping[str, float | None]
    difference_expected: float
    difference_seen: float | None
    low: float | None
    high: float | None
    covered: bool | None


def read_simulated(card: Scorecard, truth: Truth) -> SimulatedReading:
    """`card` of the simulated users' experiment, with METRIC and the truth's control."""
    seen = card.comparison(METRIC, truth.arm).difference.absolute
    covered = None if seen.low is None or seen.high is None else seen.low <= truth.difference <= seen.high
    return SimulatedReading(
        metric=METRIC,
        control=truth.control,
        arm=truth.arm,
        expected=truth.expected,
        seen={arm.name: arm.metric_means[METRIC] for arm in card.arms},
        difference_expected=truth.difference,
        difference_seen=seen.value,
        low=seen.low,
        high=seen.high,
        covered=covered,
    )
