"""The arms' sizes against their weights: exact where there are few units, chi-square beyond."""

import math
from itertools import product

import pytest
from scipy import stats

from analytics.statistics.sample_ratio import ALARM_BELOW, sample_ratio


def likelihood(counts: tuple[int, ...], shares: tuple[float, ...]) -> float:
    ways = math.factorial(sum(counts)) // math.prod(math.factorial(count) for count in counts)
    return ways * math.prod(share**count for share, count in zip(shares, counts, strict=True))


def exact_by_hand(counts: tuple[int, ...], shares: tuple[float, ...]) -> float:
    n, seen = sum(counts), likelihood(counts, shares)
    outcomes = (outcome for outcome in product(range(n + 1), repeat=len(counts)) if sum(outcome) == n)
    return math.fsum(chance for outcome in outcomes if (chance := likelihood(outcome, shares)) <= seen * (1 + 1e-7))


@pytest.mark.parametrize("counts", [(5, 5), (9, 1), (0, 12), (40, 60)])
def test_two_small_arms_are_checked_exactly(counts: tuple[int, int]) -> None:
    p = sample_ratio({"a": counts[0], "b": counts[1]}, {"a": 1, "b": 2})
    assert p.method == "exact binomial"
    assert p.value == pytest.approx(exact_by_hand(counts, (1 / 3, 2 / 3)), rel=1e-9)


@pytest.mark.parametrize("counts", [(4, 4, 4), (9, 2, 1), (0, 0, 10)])
def test_three_small_arms_are_checked_exactly(counts: tuple[int, int, int]) -> None:
    p = sample_ratio(dict(zip("abc", counts, strict=True)), {"a": 2, "b": 1, "c": 1})
    assert p.method == "exact multinomial"
    assert p.value == pytest.approx(exact_by_hand(counts, (0.5, 0.25, 0.25)), rel=1e-9)


def test_large_arms_are_checked_by_chi_square() -> None:
    p = sample_ratio({"a": 50_300, "b": 49_100, "c": 100_600}, {"a": 1, "b": 1, "c": 2})
    expected = (50_000, 50_000, 100_000)
    statistic = sum((seen - due) ** 2 / due for seen, due in zip((50_300, 49_100, 100_600), expected, strict=True))
    assert p.method == "chi-square"
    assert p.value == pytest.approx(float(stats.chi2.sf(statistic, 2)), rel=1e-9)
    assert p.value is not None
    assert p.value < ALARM_BELOW


def test_weights_count_relative_to_each_other() -> None:
    units = {"a": 510, "b": 480}
    assert sample_ratio(units, {"a": 1, "b": 1}) == sample_ratio(units, {"a": 50, "b": 50})


def test_an_arm_without_a_unit_counts_as_empty() -> None:
    assert sample_ratio({"a": 30}, {"a": 1, "b": 1}).value == pytest.approx(2 * 0.5**30, rel=1e-9)


def test_units_in_an_arm_that_has_no_weight_cannot_be_chance() -> None:
    p = sample_ratio({"a": 500, "b": 500, "ghost": 1}, {"a": 1, "b": 1, "ghost": 0})
    assert p.value == 0
    assert p.reason == "units in ghost, which has no weight"


@pytest.mark.parametrize(
    ("units", "weights", "reason"),
    [
        ({}, {"a": 1, "b": 1}, "no units"),
        ({"a": 5}, {}, "no weights"),
        ({"a": 5}, {"a": 0}, "no weights"),
        ({"a": 5}, {"a": 1}, "one arm only"),
    ],
)
def test_without_something_to_check_there_is_no_p_value_but_a_reason(
    units: dict[str, int], weights: dict[str, int], reason: str
) -> None:
    p = sample_ratio(units, weights)
    assert p.value is None
    assert p.reason == reason
