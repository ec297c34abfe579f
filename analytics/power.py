"""How many units an experiment needs to see an effect. Pure.

The test is the scorecard's: Welch's t, two-sided, each treatment against the control. Its power under assumed means and variances
is that of a noncentral t at Welch's degrees of freedom (Welch 1947; Cohen 1988, 2.2). With several treatments alpha is shared out
among them (Bonferroni), so that it holds for the experiment.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.stats import nct, t

UNITS_MAX = 1e12
"""Where the search for a size gives up."""

WRONG_SIDE_CENTRE_MAX = 5.0
"""Beyond it the chance to see the effect with the wrong sign is below 1e-11, and scipy no longer has a figure for it."""


@dataclass(frozen=True, slots=True)
class Population:
    mean: float
    variance: float

    @classmethod
    def of_rate(cls, rate: float) -> "Population":
        """Of a yes or no by unit."""
        return cls(rate, rate * (1 - rate))


@dataclass(frozen=True, slots=True)
class Design:
    """`weights` are the arms', the control first. `alpha` is of the experiment; `power` each treatment's."""

    weights: tuple[int, ...]
    alpha: float = 0.05
    power: float = 0.8

    @property
    def alpha_of_comparison(self) -> float:
        return self.alpha / (len(self.weights) - 1)


@dataclass(frozen=True, slots=True)
class Size:
    """Units by arm, in the order of the design's weights."""

    units: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.units)


def size(control: Population, treatment: Population, design: Design) -> Size | None:
    """The smallest experiment in which every treatment has the design's power; None where UNITS_MAX are not enough.

    Treatments are taken to be alike, so the one with the least weight decides. Raises ValueError where the means are the same.
    """
    if control.mean == treatment.mean:
        raise ValueError("no effect: the means are the same")

    def lacking(log_total: float) -> float:
        return power_at(control, treatment, design, _shared_out(math.exp(log_total), design.weights)) - design.power

    fewest = math.log(2 * sum(design.weights) / min(design.weights) + 1e-9)
    if lacking(math.log(UNITS_MAX)) < 0:
        return None
    log_total = fewest if lacking(fewest) >= 0 else float(brentq(lacking, fewest, math.log(UNITS_MAX), xtol=1e-12))
    return Size(tuple(math.ceil(units - 1e-6) for units in _shared_out(math.exp(log_total), design.weights)))


def power_at(control: Population, treatment: Population, design: Design, units: Sequence[float]) -> float:
    """The chance to see the effect in the smallest treatment. Each arm needs more than one unit."""
    control_units, treated_units = units[0], min(units[1:])
    of_control, of_treated = control.variance / control_units, treatment.variance / treated_units
    error = of_control + of_treated
    freedom = error**2 / (of_control**2 / (control_units - 1) + of_treated**2 / (treated_units - 1))
    centre, critical = (
        abs(treatment.mean - control.mean) / math.sqrt(error),
        float(t.isf(design.alpha_of_comparison / 2, freedom)),
    )
    wrong_side = float(nct.cdf(-critical, freedom, centre)) if centre < WRONG_SIDE_CENTRE_MAX else 0.0
    return float(nct.sf(critical, freedom, centre)) + wrong_side


def days(total: int, units_a_day: float, share: float) -> int:
    """Until so many units have come, if `units_a_day` new ones do, and `share` of them enter."""
    return math.ceil(total / (units_a_day * share))


def _shared_out(total: float, weights: Sequence[int]) -> list[float]:
    return [total * weight / sum(weights) for weight in weights]
