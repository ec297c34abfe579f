"""What the demo adds to the log's scorecards: figures of all campaigns together, and what they cannot show."""

import pytest
from statsmodels.stats.multitest import multipletests

from analytics.metrics_catalog import Aggregate, Direction, Measure, Metric, MetricKind, Source
from analytics.moments import Moments
from analytics.results import ArmCounts, Cell, Completeness, LeftOut, Scorecard
from analytics.scorecard import Answers, Question, assemble
from deploy.demo.log_reading import METRIC, read_log, remarks, with_remarks
from deploy.demo.stored_events import ArmTotals
from schemas.events import Micros

CLICKS = {"obd-all": (38, 42), "obd-men": (46, 69), "obd-women": (46, 46)}
IMPRESSIONS = 10_000

CLICKS_PER_UNIT = Metric(
    name=METRIC,
    title="Clicks",
    description="Clicks.",
    unit_of_measure="clicks per unit",
    kind=MetricKind.MEAN,
    better=Direction.HIGHER,
    numerator=Measure(Source.INTERACTIONS, Aggregate.COUNT, "click"),
)


def cell(arm: str, clicks: int) -> Cell:
    mean = clicks / IMPRESSIONS
    moments = Moments(IMPRESSIONS, {"numerator": mean}, {("numerator", "numerator"): clicks * (1 - mean)})
    return Cell(1, arm, ArmCounts(units=IMPRESSIONS, exposed_requests=IMPRESSIONS), {METRIC: moments})


def card(experiment: str) -> Scorecard:
    cells = tuple(cell(arm, clicks) for arm, clicks in zip(("random", "bts"), CLICKS[experiment], strict=True))
    answers = Answers((), cells, LeftOut((), 0, 0, 0, 0, 0), Completeness(None, 20_000, 0, 0, None, 0))
    return assemble(Question(experiment, (CLICKS_PER_UNIT,), control="random"), answers, Micros(0))


@pytest.fixture
def cards() -> list[Scorecard]:
    return [card(experiment) for experiment in CLICKS]


@pytest.fixture
def totals() -> list[ArmTotals]:
    log = [
        ArmTotals(experiment, arm, IMPRESSIONS, clicks)
        for experiment, both in CLICKS.items()
        for arm, clicks in zip(("random", "bts"), both, strict=True)
    ]
    return [*log, ArmTotals("demo-ranking", "popularity", 1_000, 300)]


def test_three_campaigns_are_corrected_as_statsmodels_does(cards: list[Scorecard], totals: list[ArmTotals]) -> None:
    reading = read_log(cards, totals)

    raw = [found.comparison(METRIC, "bts").difference.p.value for found in cards]
    _, adjusted, _, _ = multipletests(raw, method="holm")
    assert list(reading.p_adjusted) == list(CLICKS)
    assert list(reading.p_adjusted.values()) == pytest.approx(list(adjusted), abs=1e-12)
    assert raw[1] is not None
    assert raw[1] < 0.05 < adjusted[1]


def test_remarks_are_made_of_the_figures(cards: list[Scorecard], totals: list[ArmTotals]) -> None:
    said = {remark.code: remark.text for remark in remarks(read_log(cards, totals))}

    assert "slates of 3 items" in said["slots_of_slates"]
    assert "optimistic" in said["slots_of_slates"]
    assert said["size_fixed_by_sampling"].startswith("10,000 rows a log was fixed by sampling")
    assert "Holm" in said["campaigns_corrected"]
    assert "obd-men 0.09" in said["campaigns_corrected"]
    assert said["few_clicks"].startswith("With 38–69 clicks a log, only effects of 58% to 64% could have been seen")


def test_the_smallest_visible_effect_is_that_of_the_textbook(cards: list[Scorecard], totals: list[ArmTotals]) -> None:
    detectable = read_log(cards, totals).detectable

    for experiment, (base, _) in CLICKS.items():
        rate = base / IMPRESSIONS
        textbook = (1.959964 + 0.841621) * (2 * rate * (1 - rate) / IMPRESSIONS) ** 0.5 / rate
        assert detectable[experiment] == pytest.approx(textbook, rel=1e-3)


def test_a_card_keeps_its_own_caveats_before_those_of_the_log(cards: list[Scorecard], totals: list[ArmTotals]) -> None:
    reading = read_log(cards, totals)

    assert with_remarks(cards[0], reading).caveats == (*cards[0].caveats, *remarks(reading))
    assert cards[0].caveats


def test_a_log_without_a_click_says_that_it_cannot_tell() -> None:
    cells = (cell("random", 0), cell("bts", 0))
    answers = Answers((), cells, LeftOut((), 0, 0, 0, 0, 0), Completeness(None, 20_000, 0, 0, None, 0))
    silent = assemble(Question("obd-all", (CLICKS_PER_UNIT,), control="random"), answers, Micros(0))

    reading = read_log([silent], [ArmTotals("obd-all", "bts", IMPRESSIONS, 0)])

    assert reading.p_adjusted == {"obd-all": None}
    assert "effects of unknown size" in remarks(reading)[-1].text
