"""Intervals and p-values agree with a second implementation to 1e-9, cover the truth as often as they say, and are never NaN."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from analytics.moments import Moments
from analytics.statistics.comparison import (
    DENOMINATOR,
    NUMERATOR,
    Detectable,
    Difference,
    compare,
    detectable,
    metric_mean,
    metric_variance,
)

Sample = NDArray[np.float64]


def moments_of(values: Sample, denominators: Sample | None = None) -> Moments:
    columns = {NUMERATOR: values} if denominators is None else {DENOMINATOR: denominators, NUMERATOR: values}
    centred = {name: column - column.mean() for name, column in columns.items()}
    deviations = {(a, b): float(centred[a] @ centred[b]) for a in columns for b in columns if a <= b}
    return Moments(len(values), {name: float(column.mean()) for name, column in columns.items()}, deviations)


def drawn(seed: int, n: int, rate: float) -> tuple[Sample, Sample]:
    """Clicks and requests of `n` units, whose requests differ in number."""
    draw = np.random.default_rng(seed)
    requests = draw.integers(1, 8, n).astype(float)
    return draw.binomial(requests.astype(int), rate).astype(float), requests


def same(figure: float) -> object:
    return pytest.approx(figure, rel=1e-9, abs=1e-12)


def welch_by_hand(gap: float, squares: tuple[float, float], counts: tuple[int, int]) -> tuple[float, float, float]:
    """Low end, high end and p of a gap whose parts have these variances of the mean."""
    scale = math.sqrt(sum(squares))
    degrees = sum(squares) ** 2 / sum(square**2 / (n - 1) for square, n in zip(squares, counts, strict=True))
    half = float(stats.t.ppf(0.975, degrees)) * scale
    return gap - half, gap + half, 2 * float(stats.t.sf(abs(gap) / scale, degrees))


def assert_agrees(difference: Difference, low: float, high: float, p: float) -> None:
    assert difference.absolute.low == same(low)
    assert difference.absolute.high == same(high)
    assert difference.p.value == same(p)


@pytest.mark.parametrize(("n", "m", "rate"), [(2, 3, 0.5), (40, 35, 0.4), (10_000, 10_000, 0.0046), (500, 20_000, 0.05)])
def test_a_mean_is_compared_as_statsmodels_and_scipy_do(n: int, m: int, rate: float) -> None:
    control, arm = drawn(1, n, rate)[0], drawn(2, m, rate * 1.2)[0]
    difference = compare(moments_of(control), moments_of(arm))
    second = CompareMeans(DescrStatsW(arm), DescrStatsW(control))
    low, high = second.tconfint_diff(usevar="unequal")
    assert_agrees(difference, low, high, second.ttest_ind(usevar="unequal")[1])
    third = stats.ttest_ind(arm, control, equal_var=False)
    interval = third.confidence_interval(0.95)
    assert_agrees(difference, float(interval.low), float(interval.high), float(third.pvalue))
    assert difference.absolute.method == difference.p.method == "Welch t"


@pytest.mark.parametrize(("n", "m", "rate"), [(12, 9, 0.5), (400, 350, 0.1), (20_000, 500, 0.01)])
def test_a_ratio_is_compared_by_the_delta_method(n: int, m: int, rate: float) -> None:
    sides = [drawn(3, n, rate), drawn(4, m, rate * 1.3)]
    difference = compare(*(moments_of(*side) for side in sides))
    means, squares = [], []
    for clicks, requests in sides:
        mean = clicks.sum() / requests.sum()
        linear = (clicks - mean * requests) / requests.mean()
        means.append(float(mean))
        squares.append(float(linear.var(ddof=1)) / len(clicks))
    assert_agrees(difference, *welch_by_hand(means[1] - means[0], (squares[0], squares[1]), (n, m)))
    assert difference.absolute.value == same(means[1] - means[0])
    assert difference.absolute.method == "delta method, Welch t"


@pytest.mark.parametrize("kind", ["mean", "ratio"])
def test_the_relative_interval_is_that_of_the_log_carried_back(kind: str) -> None:
    sides = [drawn(5, 300, 0.2), drawn(6, 410, 0.25)]
    moments = [moments_of(clicks, requests if kind == "ratio" else None) for clicks, requests in sides]
    means, squares = [], []
    for clicks, requests in sides:
        base = requests if kind == "ratio" else np.ones_like(clicks)
        mean = clicks.sum() / base.sum()
        means.append(float(mean))
        squares.append(float(((clicks - mean * base) / base.mean() / mean).var(ddof=1)) / len(clicks))
    low, high, _ = welch_by_hand(math.log(means[1] / means[0]), (squares[0], squares[1]), (300, 410))
    relative = compare(*moments).relative
    assert relative.value == same(means[1] / means[0] - 1)
    assert (relative.low, relative.high) == (same(math.expm1(low)), same(math.expm1(high)))


def test_the_smallest_visible_effect_has_the_power_that_it_says() -> None:
    control = moments_of(drawn(7, 5_000, 0.05)[0])
    found = detectable(control, control).relative
    assert found is not None
    in_deviations = found * control.mean(NUMERATOR) / math.sqrt(control.var(NUMERATOR))
    assert NormalIndPower().power(in_deviations, 5_000, 0.05) == pytest.approx(0.8, abs=1e-9)


def test_the_smallest_visible_effect_holds_for_arms_of_unlike_size() -> None:
    control, arm = moments_of(drawn(8, 900, 0.1)[0]), moments_of(drawn(9, 3_100, 0.1)[0])
    found = detectable(control, arm).relative
    assert found is not None
    shift = found * control.mean(NUMERATOR) / math.sqrt(control.var(NUMERATOR) * (1 / 900 + 1 / 3_100))
    critical = stats.norm.isf(0.025)
    assert stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift) == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize(
    ("control", "arm", "reason"),
    [
        ([], [1.0, 2.0], "the control has no unit"),
        ([1.0], [1.0, 2.0], "the control has one unit"),
        ([1.0, 2.0], [1.0], "the arm has one unit"),
        ([0.0, 0.0], [0.0, 0.0], "no unit differs from another"),
        ([1.0, 1.0], [2.0, 2.0], "no unit differs from another"),
        ([1.0, math.nan], [2.0, 3.0], "not finite"),
    ],
)
def test_what_cannot_be_compared_says_why(control: list[float], arm: list[float], reason: str) -> None:
    sides = [moments_of(np.array(side)) if side else Moments(0, {NUMERATOR: 0.0}, {}) for side in (control, arm)]
    difference = compare(*sides)
    for part in (difference.absolute, difference.relative, difference.p, detectable(*sides)):
        assert part.reason is not None
        assert reason in part.reason
    assert difference.absolute.value is difference.p.value is difference.relative.value is None


def test_without_an_event_in_the_control_there_is_a_difference_but_no_ratio() -> None:
    control, arm = moments_of(np.zeros(50)), moments_of(np.array([0.0, 1.0] * 25))
    difference = compare(control, arm)
    assert difference.absolute.value == 0.5
    assert difference.p.value is not None
    assert difference.relative.value is None
    assert difference.relative.reason == "a mean is not above zero: no ratio of means on a log scale"
    assert detectable(control, arm) == Detectable(
        None, reason="the control's mean or variance is zero: no base to measure an effect by"
    )


def test_a_ratio_that_is_the_same_for_every_unit_has_no_variance_in_spite_of_rounding() -> None:
    requests = np.array([1.0, 3.0, 7.0, 11.0]) / 3
    always = moments_of(requests * 0.1, requests)
    assert metric_variance(always) == 0
    assert compare(always, always).p.reason == "no unit differs from another, in either arm"


def test_a_denominator_of_zero_gives_no_mean() -> None:
    nothing = moments_of(np.array([0.0, 0.0]), np.array([0.0, 0.0]))
    assert metric_mean(nothing) is None
    assert compare(nothing, nothing).p.reason == "the control's denominator is zero"


units = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(units, units, st.sampled_from(["mean", "ratio"]))
def test_no_figure_is_ever_nan_or_infinite(control: list[tuple[int, int]], arm: list[tuple[int, int]], kind: str) -> None:
    columns = [np.array(side, dtype=float).T for side in (control, arm)]
    sides = [moments_of(values, denominators if kind == "ratio" else None) for values, denominators in columns]
    difference, visible = compare(*sides), detectable(*sides)
    estimates = (difference.absolute, difference.relative)
    figures = [figure for part in estimates for figure in (part.value, part.low, part.high)]
    figures += [difference.p.value, visible.relative, *(metric_mean(side) for side in sides)]
    assert all(figure is None or math.isfinite(figure) for figure in figures)
    assert all((part.value is None) == (part.reason is not None) for part in (*estimates, difference.p))


def test_the_intervals_cover_the_truth_nineteen_times_in_twenty() -> None:
    draw = np.random.default_rng(20_261)
    runs, n, rates = 1_000, 400, (0.10, 0.13)
    covered = {"absolute": 0, "relative": 0}
    for _ in range(runs):
        sides = []
        for rate in rates:
            requests = draw.integers(1, 8, n)
            # A unit's own rate varies, so its requests are not independent: the unit is what the variance has to be taken over.
            own = draw.beta(2, 2 / rate - 2, n)
            sides.append(moments_of(draw.binomial(requests, own).astype(float), requests.astype(float)))
        difference = compare(*sides)
        for name, truth in (("absolute", rates[1] - rates[0]), ("relative", rates[1] / rates[0] - 1)):
            estimate = getattr(difference, name)
            covered[name] += estimate.low <= truth <= estimate.high
    # Four standard errors of a share of 0.95 over 1,000 runs are 0.028.
    assert {name: share / runs for name, share in covered.items()} == pytest.approx(
        {"absolute": 0.95, "relative": 0.95}, abs=0.028
    )


def test_without_an_effect_one_p_value_in_twenty_is_below_five_per_cent() -> None:
    draw = np.random.default_rng(7)
    p_values = []
    for _ in range(1_000):
        control, arm = (moments_of(draw.binomial(1, 0.2, 300).astype(float)) for _ in range(2))
        p_values.append(compare(control, arm).p.value or 0.0)
    assert sum(p < 0.05 for p in p_values) / 1_000 == pytest.approx(0.05, abs=0.028)
