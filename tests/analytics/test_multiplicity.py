"""Holm's correction, against statsmodels' own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from analytics.statistics.multiplicity import adjust


@settings(max_examples=25)  # statsmodels takes a tenth of a second for each
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_correction_is_holms(p_values: list[float]) -> None:
    adjusted = adjust(dict(enumerate(p_values)))
    assert [adjusted[at] for at in range(len(p_values))] == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_a_question_without_a_test_stays_without_one_and_does_not_count() -> None:
    assert adjust({"all": 0.02, "men": None, "women": 0.03}) == {
        "all": pytest.approx(0.04),
        "men": None,
        "women": pytest.approx(0.04),
    }


def test_nothing_to_correct_is_nothing_corrected() -> None:
    assert adjust({"all": None}) == {"all": None}
    assert adjust({}) == {}
