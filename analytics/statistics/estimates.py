"""The words in which statistics answer: a figure, how it was computed, or why there is none."""

from dataclasses import dataclass

CONFIDENCE_LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` and its two-sided 95 % interval. All three are None where there is no such figure, for `reason`."""

    method: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PValue:
    """Two-sided. `value` is None where there is none, for `reason`."""

    method: str
    value: float | None = None
    reason: str | None = None
