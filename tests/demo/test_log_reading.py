"""What the demo adds to the log's scorecards: figures of all campaigns together, and what they cannot show."""

import pytest
from statsmodels.stats.multitest import multipletests

from deploy.demo.log_reading import METRIC, LogReading, read_log, remarks, with_remarks
from deploy.demo.stored_events import ArmTotals
from tests.demo.scorecards import CLICKS, IMPRESSIONS, card, log_cards, log_totals


@pytest.fixture
def reading() -> LogReading:
    return read_log(log_cards(), [*log_totals(), ArmTotals("demo-ranking", "popularity", 1_000, 300)])


def test_three_campaigns_are_corrected_as_statsmodels_does(reading: LogReading) -> None:
    raw = [found.comparison(METRIC, "bts").difference.p.value for found in log_cards()]
    _, adjusted, _, _ = multipletests(raw, method="holm")

    assert list(reading.p_adjusted) == list(CLICKS)
    assert list(reading.p_adjusted.values()) == pytest.approx(list(adjusted), abs=1e-12)
    assert raw[1] is not None
    assert raw[1] < 0.05 < adjusted[1]


def test_remarks_are_made_of_the_figures(reading: LogReading) -> None:
    said = {remark.code: remark.text for remark in remarks(reading)}

    assert "slates of 3 items" in said["slots_of_slates"]
    assert "optimistic" in said["slots_of_slates"]
    assert said["size_fixed_by_sampling"].startswith("10,000 rows a log was fixed by sampling")
    assert "Holm" in said["campaigns_corrected"]
    assert "obd-men 0.09" in said["campaigns_corrected"]
    assert said["few_clicks"].startswith("With 38–69 clicks a log, only effects of 58% to 64% could have been seen")


def test_the_smallest_visible_effect_is_that_of_the_textbook(reading: LogReading) -> None:
    for experiment, (base, _) in CLICKS.items():
        rate = base / IMPRESSIONS
        textbook = (1.959964 + 0.841621) * (2 * rate * (1 - rate) / IMPRESSIONS) ** 0.5 / rate
        assert reading.detectable[experiment] == pytest.approx(textbook, rel=1e-3)


def test_a_card_keeps_its_own_caveats_before_those_of_the_log(reading: LogReading) -> None:
    own = log_cards()[0]

    assert with_remarks(own, reading).caveats == (*own.caveats, *remarks(reading))
    assert own.caveats


def test_a_log_without_a_click_says_that_it_cannot_tell() -> None:
    reading = read_log([card("obd-all", (0, 0))], [ArmTotals("obd-all", "bts", IMPRESSIONS, 0)])

    assert reading.p_adjusted == {"obd-all": None}
    assert "effects of unknown size" in remarks(reading)[-1].text
