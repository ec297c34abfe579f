"""The size of an experiment: against statsmodels, by simulation, and at the terminal."""

import json
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from statsmodels.stats.power import TTestIndPower, normal_power_het

from analytics.power import Design, Population, Size, days, power_at, size
from deploy.cli import main


@pytest.mark.parametrize(
    ("effect", "ratio", "alpha", "power"),
    list(product((0.02, 0.2, 0.8), (1,), (0.01, 0.05), (0.8, 0.95)))
    + list(product((0.02, 0.2), (3,), (0.01, 0.05), (0.8, 0.95))),
)
def test_power_and_size_are_those_of_statsmodels(effect: float, ratio: int, alpha: float, power: float) -> None:
    """With equal variances and arms Welch's degrees of freedom are the pooled ones; in large unequal arms they matter little."""
    design = Design((1, ratio), alpha, power)
    found = size(Population(0, 1), Population(effect, 1), design)
    assert found is not None
    exact = TTestIndPower().solve_power(effect, alpha=alpha, power=power, ratio=ratio)
    assert found.units[0] == pytest.approx(exact, abs=1.5 if ratio == 1 else 0.02 * exact + 2)
    reached = TTestIndPower().power(effect, found.units[0], alpha, ratio=ratio)
    assert power_at(Population(0, 1), Population(effect, 1), design, found.units) == pytest.approx(
        reached, abs=1e-8 if ratio == 1 else 0.01
    )


@pytest.mark.parametrize(("rate", "lifted"), [(0.05, 0.051), (0.5, 0.49), (0.001, 0.002)])
def test_rates_have_variances_of_their_own(rate: float, lifted: float) -> None:
    design = Design((1, 1))
    units = 200_000
    one, other = Population.of_rate(rate), Population.of_rate(lifted)
    deviation = np.sqrt(one.variance + other.variance)
    expected = normal_power_het(lifted - rate, units, 0.05, deviation, deviation)
    assert power_at(one, other, design, (units, units)) == pytest.approx(expected, abs=1e-4)


def test_an_experiment_of_the_size_sees_the_effect_as_often_as_it_should() -> None:
    one, other = Population.of_rate(0.1), Population.of_rate(0.13)
    found = size(one, other, Design((2, 1), alpha=0.05, power=0.8))
    assert found is not None
    draw = np.random.default_rng(7)
    seen = 0
    for _ in range(2_000):
        arms = [draw.random(units) < moments.mean for units, moments in zip(found.units, (one, other), strict=True)]
        seen += stats.ttest_ind(arms[0].astype(float), arms[1].astype(float), equal_var=False).pvalue < 0.05
    assert stats.binomtest(seen, 2_000, 0.8).pvalue > 0.001


def test_more_treatments_share_alpha_and_the_smallest_decides() -> None:
    one, other = Population(0, 1), Population(0.1, 1)
    three = size(one, other, Design((1, 1, 1)))
    stricter = size(one, other, Design((1, 1), alpha=0.025))
    assert three is not None
    assert stricter is not None
    assert three == Size((stricter.units[0],) * 3)
    uneven = size(one, other, Design((1, 1, 5)))
    assert uneven is not None
    assert uneven.units[0] == pytest.approx(three.units[0], abs=1)


def test_no_effect_and_effects_beyond_reach_are_said() -> None:
    with pytest.raises(ValueError, match="the means are the same"):
        size(Population(1, 1), Population(1, 1), Design((1, 1)))
    assert size(Population(0, 1), Population(1e-7, 1), Design((1, 1))) is None
    huge = size(Population(0, 1), Population(100, 1), Design((1, 1)))
    assert huge is not None
    assert max(huge.units) <= 3


def test_days_count_those_who_enter() -> None:
    assert (days(100, 50, 1.0), days(101, 50, 1.0), days(100, 50, 0.1)) == (2, 3, 20)


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["experiments", "size", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_says_units_and_days() -> None:
    answer = json.loads(said("--rate", "0.05", "--mde", "0.1", "--units-a-day", "10000", "--share", "0.5", "--json"))
    found = size(Population.of_rate(0.05), Population.of_rate(0.055), Design((1, 1)))
    assert found is not None
    assert (tuple(answer["units"]), answer["days"]) == (found.units, days(found.total, 10_000, 0.5))
    assert answer["treatment"]["mean"] == pytest.approx(0.055)
    assert f"{found.total} units" in said("--rate", "0.05", "--mde-absolute", "0.005")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "0.05"),
        ("--mde", "0.1"),
        ("--rate", "0.5", "--mean", "1", "--mde", "0.1"),
        ("--mean", "1", "--mde", "0.1"),
        ("--rate", "0.5", "--mde", "0"),
        ("--rate", "0.5", "--mde", "3"),
        ("--rate", "0.5", "--mde", "0.1", "--arms", "1"),
        ("--rate", "0.5", "--mde", "0.1", "--arms", "a:b"),
    ],
)
def test_what_cannot_be_planned_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert "Error" in said(*arguments, code=2)
