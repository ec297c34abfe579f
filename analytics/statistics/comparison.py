"""One arm against the control: difference, relative difference, p-value. Pure; the arithmetic is tea-tasting's.

A mean is compared by Welch's t test. A ratio of sums varies by unit, so its variance comes from the delta method (Deng, Knoblich,
Lu 2018, https://arxiv.org/abs/1803.06336). The interval of the relative difference is that of the log of the ratio of means,
carried back: it never reaches below −100 %, and it is not symmetric.
"""

import math
from dataclasses import dataclass
from typing import Any

import tea_tasting
from tea_tasting.aggr import Aggregates

from analytics.moments import Moments
from analytics.statistics.estimates import ALPHA, CONFIDENCE_LEVEL, POWER, Estimate, PValue

NUMERATOR = "numerator"
DENOMINATOR = "denominator"

_CANCELLED = 1e-12
"""A variance below this share of the terms that it is the difference of is rounding, and means none."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`absolute` is arm − control in the metric's own unit; `relative` is arm / control − 1, as a share (0.1 is ten per cent)."""

    absolute: Estimate
    relative: Estimate
    p: PValue


@dataclass(frozen=True, slots=True)
class Detectable:
    """The smallest relative effect (a share of the control's mean) that a two-sided test at `alpha` would have shown with
    probability `power`, with this many units. None where it cannot be said, for `reason`.
    """

    relative: float | None
    alpha: float = ALPHA
    power: float = POWER
    method: str = "normal approximation, the control's variance in both arms"
    reason: str | None = None


def metric_mean(moments: Moments) -> float | None:
    """The mean of the numerator, over the mean of the denominator where the metric has one.

    None where there is no unit, where the denominator is zero, or where a value is not finite.
    """
    if not moments.count or not _finite(moments):
        return None
    if not _is_ratio(moments):
        return moments.mean(NUMERATOR)
    return moments.mean(NUMERATOR) / moments.mean(DENOMINATOR) if moments.mean(DENOMINATOR) else None


def metric_variance(moments: Moments) -> float:
    """The variance of a unit's contribution to the metric: the sample variance, by the delta method where it is a ratio."""
    if not _is_ratio(moments):
        return moments.var(NUMERATOR)
    mean = moments.mean(NUMERATOR) / moments.mean(DENOMINATOR)
    terms = moments.var(NUMERATOR) + mean * mean * moments.var(DENOMINATOR)
    variance = terms - 2 * mean * moments.cov(NUMERATOR, DENOMINATOR)
    return variance / moments.mean(DENOMINATOR) ** 2 if variance > _CANCELLED * terms else 0.0


def compare(control: Moments, arm: Moments) -> Difference:
    """`arm` against `control`."""
    welch, log_ratio = _methods(control)
    if (reason := _refusal(control, arm)) is not None:
        return Difference(_no_estimate(welch, reason), _no_estimate(log_ratio, reason), PValue(welch, reason=reason))
    result = _analysis(control).analyze_aggregates(_aggregates(control), _aggregates(arm))
    low, high = float(result.effect_size_ci_lower), float(result.effect_size_ci_upper)
    absolute = Estimate(welch, float(result.effect_size), low, high)
    return Difference(absolute, _relative(result, log_ratio), PValue(welch, float(result.pvalue)))


def detectable(control: Moments, arm: Moments) -> Detectable:
    """What the two samples' sizes, and the control's base rate and variance, could have shown.

    By the normal distribution: scipy's noncentral t turns NaN far out, for arms of 100,000 and 10,000,000 units for example.
    """
    if (reason := _no_base(control, arm)) is not None:
        return Detectable(None, reason=reason)
    analysis = _analysis(control, use_t=False, n_obs=control.count + arm.count, ratio=arm.count / control.count)
    (result,) = analysis.solve_power_from_aggregates(_aggregates(control), "rel_effect_size")
    return Detectable(float(result.rel_effect_size))


def _analysis(moments: Moments, *, use_t: bool = True, **sizes: float) -> Any:
    return tea_tasting.RatioOfMeans(
        NUMERATOR,
        DENOMINATOR if _is_ratio(moments) else None,
        alternative="two-sided",
        confidence_level=CONFIDENCE_LEVEL,
        alpha=ALPHA,
        power=POWER,
        equal_var=False,
        use_t=use_t,
        **sizes,
    )


def _aggregates(moments: Moments) -> Aggregates:
    names = list(moments.means)
    pairs = [pair for pair in moments.deviations if pair[0] != pair[1]]
    return Aggregates(
        moments.count,
        {name: moments.mean(name) for name in names},
        {name: moments.var(name) for name in names},
        {pair: moments.cov(*pair) for pair in pairs},
    )


def _methods(moments: Moments) -> tuple[str, str]:
    if _is_ratio(moments):
        return "delta method, Welch t", "log-ratio, delta method, Welch t"
    return "Welch t", "log-ratio, delta method, Welch t"


def _refusal(control: Moments, arm: Moments) -> str | None:
    """Why the two cannot be compared, None where they can."""
    for name, moments in (("control", control), ("arm", arm)):
        if (reason := _unusable(name, moments)) is not None:
            return reason
    if not metric_variance(control) and not metric_variance(arm):
        return "no unit differs from another, in either arm"
    return None


def _unusable(name: str, moments: Moments) -> str | None:
    if moments.count < 2:
        return f"the {name} has {'one unit' if moments.count else 'no unit'}: no variance"
    if not _finite(moments):
        return f"the {name} holds a value that is not finite"
    if _is_ratio(moments) and not moments.mean(DENOMINATOR):
        return f"the {name}'s denominator is zero"
    return None


def _no_base(control: Moments, arm: Moments) -> str | None:
    if (reason := _refusal(control, arm)) is not None:
        return reason
    if not (metric_mean(control) or 0) > 0 or not metric_variance(control):
        return "the control's mean or variance is zero: no base to measure an effect by"
    return None


def _relative(result: Any, method: str) -> Estimate:
    if not (result.control > 0 and result.treatment > 0):
        return _no_estimate(method, "a mean is not above zero: no ratio of means on a log scale")
    low, high = float(result.rel_effect_size_ci_lower), float(result.rel_effect_size_ci_upper)
    if not math.isfinite(high):
        return _no_estimate(method, "the interval has no finite upper end")
    return Estimate(method, float(result.rel_effect_size), low, high)


def _no_estimate(method: str, reason: str) -> Estimate:
    return Estimate(method, reason=reason)


def _finite(moments: Moments) -> bool:
    return all(math.isfinite(value) for value in (*moments.means.values(), *moments.deviations.values()))


def _is_ratio(moments: Moments) -> bool:
    return DENOMINATOR in moments.means
