"""Figures made of figures. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """One way through a topic: from the first record in hand to the clean answer for the last.

    `cpu_s` is CPU time by process, `others_cpu_s` that of everything else on the machine: it should be next to nothing.
    `spent_s` is the sink's own account of its time, from its start; empty for the others.
    """

    rows: int
    seconds: float
    cpu_s: Mapping[str, float]
    others_cpu_s: float
    spent_s: Mapping[str, float]

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds

    @property
    def busy_cores(self) -> float:
        return sum(self.cpu_s.values()) / self.seconds

    @property
    def others_cores(self) -> float:
        return self.others_cpu_s / self.seconds

    def cpu_us_per_row(self, process: str) -> float:
        return self.cpu_s.get(process, 0.0) / self.rows * 1e6

    @property
    def all_cpu_us_per_row(self) -> float:
        return sum(self.cpu_s.values()) / self.rows * 1e6

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round: a machine that drifts, drifts for both."""
    return [one / other for one, other in zip(above, below, strict=True)]


def percentile(values: Sequence[float], percent: int) -> float:
    """Of 1 to 99."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def deviation(values: Sequence[float]) -> float:
    """How far from their median the farthest is, as a share of it."""
    middle = median(values)
    return max(abs(value - middle) for value in values) / middle
