"""Moments of parts add up to the moments of the whole, however the whole was split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.moments import Moments

Values = list[tuple[float, float]]

finite = st.floats(-1e6, 1e6)
samples = st.lists(st.tuples(finite, finite), max_size=40)


def moments_of(values: Values) -> Moments:
    """Straight from the definition, with numpy."""
    if not values:
        return Moments(0, {"x": 0.0, "y": 0.0}, {("x", "x"): 0.0, ("x", "y"): 0.0, ("y", "y"): 0.0})
    x, y = np.array(values).T
    dx, dy = x - x.mean(), y - y.mean()
    deviations = {("x", "x"): float(dx @ dx), ("x", "y"): float(dx @ dy), ("y", "y"): float(dy @ dy)}
    return Moments(len(values), {"x": float(x.mean()), "y": float(y.mean())}, deviations)


def assert_same(found: Moments, wanted: Moments, values: Values) -> None:
    scale = max((abs(value) for pair in values for value in pair), default=0.0)
    assert found.count == wanted.count
    assert dict(found.means) == pytest.approx(dict(wanted.means), abs=1e-9 * (1 + scale))
    assert dict(found.deviations) == pytest.approx(dict(wanted.deviations), abs=1e-9 * (1 + scale**2) * (1 + len(values)))


@given(st.lists(samples, min_size=1, max_size=6))
def test_any_split_adds_up_to_the_whole(parts: list[Values]) -> None:
    whole = [pair for part in parts for pair in part]
    total = moments_of(parts[0])
    for part in parts[1:]:
        total += moments_of(part)
    assert_same(total, moments_of(whole), whole)


@given(samples, samples, samples)
def test_the_order_of_adding_does_not_matter(a: Values, b: Values, c: Values) -> None:
    left = (moments_of(a) + moments_of(b)) + moments_of(c)
    right = moments_of(c) + (moments_of(b) + moments_of(a))
    assert_same(left, right, a + b + c)


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=40))
def test_variance_and_covariance_are_the_sample_ones(values: Values) -> None:
    x, y = np.array(values).T
    moments = moments_of(values)
    scale = 1 + float(np.abs(np.array(values)).max()) ** 2
    assert moments.var("x") == pytest.approx(float(np.var(x, ddof=1)), abs=1e-9 * scale)
    assert moments.cov("y", "x") == moments.cov("x", "y") == pytest.approx(float(np.cov(x, y)[0, 1]), abs=1e-9 * scale)


def test_a_small_variance_far_from_zero_survives_the_adding_of_single_units() -> None:
    values = [(1e9 + step, 0.0) for step in (0.0, 1.0, 2.0, 3.0)] * 250
    total = moments_of(values[:1])
    for value in values[1:]:
        total += moments_of([value])
    assert total.var("x") == pytest.approx(1.25 * 1000 / 999, rel=1e-9)


def test_one_unit_has_no_variance() -> None:
    with pytest.raises(ValueError, match="1 units have no variance"):
        moments_of([(1.0, 2.0)]).var("x")


def test_moments_of_other_variables_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        moments_of([(1.0, 2.0)]) + Moments(1, {"x": 1.0}, {("x", "x"): 0.0})
