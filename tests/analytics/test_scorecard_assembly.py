"""What a scorecard says of given counts and moments: readings, alarms, reasons, caveats; as text and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from analytics import scorecard_json, scorecard_text
from analytics.as_of import AsOf, TopicEnds, parse
from analytics.config import SHIPPED_METRICS_DIRECTORY
from analytics.errors import UnknownName
from analytics.metrics_catalog import choose, load_catalog
from analytics.moments import Moments
from analytics.results import ArmCounts, Cell, Completeness, Definition, LeftOut, Reading, Scorecard, TrafficCount
from analytics.scorecard import Answers, Question, assemble
from schemas.events import Micros

ARRIVED_AT = Micros(1_790_000_000_000_000)
METRICS = choose(load_catalog([SHIPPED_METRICS_DIRECTORY]), ["clicked_share", "click_through_rate"])
DEFINITION = Definition(1, "ab", "shelf", "Sampling finds more.", "running", "user", ("home",), {"control": 1, "sampled": 1})
NOTHING_LEFT_OUT = LeftOut((), 0, 0, 0, 0, 0, 0)
AS_OF = AsOf((TopicEnds("tailrace.interactions", "00000000-0000-0000-0000-000000000001", {0: 7, 3: 9}),), ARRIVED_AT)
AS_OF_DOCUMENT = {
    "topics": [
        {"topic": "tailrace.interactions", "topic_id": "00000000-0000-0000-0000-000000000001", "ends": {"0": 7, "3": 9}},
    ],
    "repairs_until": ARRIVED_AT,
}
COMPLETE = Completeness(4_000, 4_000, 1, 0, ARRIVED_AT, 0)


def cell(arm: str, units: int, clicked: int, revision: int = 1, degraded: int = 0) -> Cell:
    """Units of two requests each, of which `clicked` clicked once."""
    share = clicked / units
    scatter = units * share * (1 - share)
    moments = {
        "clicked_share": Moments(units, {"numerator": share}, {("numerator", "numerator"): scatter}),
        "click_through_rate": Moments(
            units,
            {"numerator": share, "denominator": 2.0},
            {("denominator", "denominator"): 0.0, ("denominator", "numerator"): 0.0, ("numerator", "numerator"): scatter},
        ),
    }
    return Cell(revision, arm, ArmCounts(units, 0, 2 * units, degraded, 0), moments)


def card_of(
    cells: Sequence[Cell],
    definitions: Sequence[Definition] = (DEFINITION,),
    control: str | None = None,
    left_out: LeftOut = NOTHING_LEFT_OUT,
    completeness: Completeness = COMPLETE,
) -> Scorecard:
    answers = Answers(AS_OF, tuple(definitions), tuple(cells), left_out, completeness)
    return assemble(Question("shelf-order", METRICS, control=control), answers)


def codes(card: Scorecard) -> set[str]:
    return {remark.code for remark in (*card.alarms, *card.caveats)}


def both_forms(card: Scorecard) -> str:
    """Renders the scorecard both ways: neither may fail, and JSON holds no NaN."""
    json.loads(scorecard_json.render(card), parse_constant=pytest.fail)
    return scorecard_text.render(card)


def test_a_clear_gain_reads_better_and_a_clear_loss_worse() -> None:
    gain = card_of([cell("control", 1_000, 100), cell("sampled", 1_000, 200)])
    loss = card_of([cell("control", 1_000, 200), cell("sampled", 1_000, 100)])
    assert gain.comparison("clicked_share", "sampled").reading is Reading.BETTER
    assert loss.comparison("clicked_share", "sampled").reading is Reading.WORSE
    assert gain.readable
    assert gain.alarms == ()


def test_where_less_is_better_a_gain_reads_worse() -> None:
    (share, _) = METRICS
    fewer = replace(share, better=load_catalog([SHIPPED_METRICS_DIRECTORY])["degraded_share"].better)
    answers = Answers(
        AS_OF, (DEFINITION,), (cell("control", 1_000, 100), cell("sampled", 1_000, 200)), NOTHING_LEFT_OUT, COMPLETE
    )
    card = assemble(Question("shelf-order", (fewer,)), answers)
    assert card.comparison("clicked_share", "sampled").reading is Reading.WORSE


def test_no_difference_seen_comes_with_what_could_have_been_seen() -> None:
    card = card_of([cell("control", 1_000, 100), cell("sampled", 1_000, 101)])
    comparison = card.comparison("clicked_share", "sampled")
    assert comparison.reading is Reading.NOT_SEEN
    assert comparison.detectable.relative == pytest.approx(0.376, abs=0.001)
    assert "absence_is_not_evidence" in codes(card)
    assert "±37.6%" in both_forms(card)


def test_a_sample_ratio_mismatch_forbids_to_read_the_verdict() -> None:
    card = card_of([cell("control", 1_200, 100), cell("sampled", 1_000, 300)])
    assert not card.readable
    assert card.alarms[0].code == "sample_ratio_mismatch"
    assert {comparison.reading for metric in card.metrics for comparison in metric.comparisons} == {Reading.WITHHELD}
    assert "ALARM Do not read" in both_forms(card)


def test_revisions_of_the_same_weights_are_checked_together_and_others_apart() -> None:
    definitions = [
        DEFINITION,
        replace(DEFINITION, revision=2, weights={"control": 50, "sampled": 50}),
        replace(DEFINITION, revision=3, weights={"control": 1, "sampled": 3}),
    ]
    cells = [cell("control", 400, 40), cell("sampled", 410, 40), cell("control", 200, 20, 2), cell("sampled", 195, 20, 2)]
    cells += [cell("control", 100, 10, 3), cell("sampled", 300, 30, 3)]
    card = card_of(cells, definitions)
    assert [check.revisions for check in card.sample_ratio] == [(1, 2), (3,)]
    assert [dict(check.units) for check in card.sample_ratio] == [
        {"control": 600, "sampled": 605},
        {"control": 100, "sampled": 300},
    ]
    assert card.sample_ratio[1].expected_shares == {"control": 0.25, "sampled": 0.75}
    assert card.readable
    assert card.revisions_exposed == (1, 2, 3)


def test_an_arm_over_several_revisions_has_all_its_units() -> None:
    definitions = [DEFINITION, replace(DEFINITION, revision=2)]
    parts = card_of([cell("control", 400, 40), cell("control", 600, 70, 2), cell("sampled", 1_000, 150)], definitions)
    whole = card_of([cell("control", 1_000, 110), cell("sampled", 1_000, 150)])
    assert parts.arms[0].counts == whole.arms[0].counts
    expected = whole.comparison("clicked_share", "sampled").difference
    assert parts.comparison("clicked_share", "sampled").difference.p.value == pytest.approx(expected.p.value, rel=1e-12)


def test_the_control_is_named_control_or_else_the_first_of_the_definition_unless_another_is_asked_for() -> None:
    cells = [cell("control", 100, 10), cell("sampled", 100, 10)]
    turned = replace(DEFINITION, weights={"sampled": 1, "control": 1})
    renamed = replace(DEFINITION, weights={"sampled": 1, "listed": 1})
    assert card_of(cells, [turned]).control == "control"
    assert card_of([cell("listed", 100, 10), cell("sampled", 100, 10)], [renamed]).control == "sampled"
    assert card_of(cells, control="sampled").comparison("clicked_share", "control").control == "sampled"
    with pytest.raises(UnknownName, match="no arm 'placebo'; there are control, sampled"):
        card_of(cells, control="placebo")


def test_every_arm_is_compared_with_the_control() -> None:
    three = replace(DEFINITION, weights={"control": 1, "sampled": 1, "fresh": 1})
    card = card_of([cell("control", 500, 50), cell("sampled", 500, 60), cell("fresh", 500, 40)], [three])
    assert [(c.arm, c.control) for c in card.metrics[0].comparisons] == [("sampled", "control"), ("fresh", "control")]
    assert "uncorrected" in codes(card)


def test_an_arm_without_a_unit_has_no_mean_and_says_why_it_is_not_compared() -> None:
    card = card_of([cell("control", 10, 1)])
    assert card.arms[1].metric_means == {"clicked_share": None, "click_through_rate": None}
    assert card.arms[1].counts.degraded_share is None
    comparison = card.comparison("clicked_share", "sampled")
    assert comparison.reading is Reading.NONE
    assert comparison.difference.p.reason == "the arm has no unit: no variance"
    assert "the arm has no unit: no variance" in both_forms(card)


def test_a_single_arm_has_nothing_to_compare_with() -> None:
    card = card_of([cell("control", 500, 50)], [replace(DEFINITION, weights={"control": 1})])
    assert card.metrics[0].comparisons == ()
    assert card.sample_ratio[0].reason == "one arm only"
    assert "clicked_share" in both_forms(card)


def test_an_experiment_that_nobody_has_seen_yet_has_arms_without_units() -> None:
    card = card_of([])
    assert [arm.counts.units for arm in card.arms] == [0, 0]
    assert card.sample_ratio == ()
    assert "no difference" not in both_forms(card)


def test_exposures_without_a_definition_are_shown_and_not_checked() -> None:
    card = card_of([cell("sampled", 500, 50), cell("listed", 900, 90)], [])
    assert card.control == "listed"
    assert card.definition is None
    assert card.sample_ratio[0].reason == "the revision's definition is not in the warehouse"
    assert card.readable
    assert "no_definition" in codes(card)
    assert "(no definition)" in both_forms(card)


def test_an_observed_experiment_says_what_its_log_cannot_show() -> None:
    observed = replace(DEFINITION, kind="observed", unit_type="impression")
    card = card_of([cell("control", 10_000, 46), cell("sampled", 10_000, 69)], [observed])
    assert {"not_randomised_here", "weights_of_a_log", "units_not_independent"} <= codes(card)
    assert card.sample_ratio[0].p_value == 1
    assert "may have been fixed when it was sampled" in both_forms(card)


def test_an_observed_experiment_without_weights_has_no_sample_ratio_check() -> None:
    observed = replace(DEFINITION, kind="observed", weights={"control": 0, "sampled": 0})
    card = card_of([cell("control", 900, 46), cell("sampled", 100, 9)], [observed])
    assert card.sample_ratio[0].p_value is None
    assert card.sample_ratio[0].reason == "observed: assigned elsewhere, with no weights known"
    assert card.readable
    both_forms(card)


def test_crossovers_raise_an_alarm_and_the_figures_stay() -> None:
    crossed = cell("control", 1_000, 100)
    crossed = replace(crossed, counts=replace(crossed.counts, crossovers=3))
    card = card_of([crossed, cell("sampled", 1_000, 200)])
    assert [(alarm.code, alarm.text) for alarm in card.alarms] == [
        ("crossovers", "3 units were answered by more than one arm; each keeps its first.")
    ]
    assert card.comparison("clicked_share", "sampled").reading is Reading.BETTER


def test_degraded_answers_are_shown_as_a_share_of_each_arm() -> None:
    card = card_of([cell("control", 500, 50, degraded=10), cell("sampled", 500, 50, degraded=250)])
    assert [arm.counts.degraded_share for arm in card.arms] == [0.01, 0.25]
    assert "25.0%" in both_forms(card)
    assert scorecard_json.as_document(card)["arms"][1]["counts"]["degraded_share"] == 0.25


def test_what_was_left_out_and_what_is_missing_is_said() -> None:
    left_out = LeftOut((TrafficCount("bot", 7, 70), TrafficCount("internal", 2, 9)), 11, 12, 13, 14, 15, 16)
    cells = [cell("control", 500, 50), cell("sampled", 500, 50)]
    card = card_of(cells, left_out=left_out, completeness=Completeness(2_100, 2_000, 3, 1, ARRIVED_AT, 5))
    text = both_forms(card)
    for words in (
        "bot 7 units with 70 requests, internal 2 units with 9 requests",
        "12 recommendations, 13 interactions",
        "14 units",
        "16 events, counted as of when Kafka took them",
    ):
        assert words in text
    assert "100 of 2100 exposures that were emitted have not arrived." in text
    assert {"incomplete", "emitters_open"} <= codes(card)
    assert "completeness_unknown" in codes(card_of(cells, completeness=Completeness(None, 2_000, 0, 0, ARRIVED_AT, 0)))


def test_few_units_are_pointed_out() -> None:
    assert "few_units" in codes(card_of([cell("control", 12, 3), cell("sampled", 14, 4)]))


def test_json_names_its_version_the_ends_that_it_counts_to_and_how_each_figure_was_made() -> None:
    document = json.loads(scorecard_json.render(card_of([cell("control", 1_000, 100), cell("sampled", 1_000, 200)])))
    assert (document["schema_version"], document["as_of"], document["traffic"]) == (2, AS_OF_DOCUMENT, "live")
    assert document["definition"]["revision"] == 1
    share, rate = document["metrics"]
    assert share["comparisons"][0]["difference"]["absolute"]["method"] == "Welch t"
    assert share["comparisons"][0]["difference"]["absolute"]["value"] == pytest.approx(0.1)
    assert rate["comparisons"][0]["difference"]["p"]["method"] == "delta method, Welch t"
    assert rate["comparisons"][0]["reading"] == "better"


def test_a_comparison_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        card_of([cell("control", 10, 1), cell("sampled", 10, 1)]).comparison("clicked_share", "control")


def test_the_ends_in_a_scorecards_json_are_taken_back_alone_or_with_all_of_it() -> None:
    card = card_of([cell("control", 10, 1), cell("sampled", 10, 1)])
    assert parse(scorecard_json.render(card)) == AS_OF
    assert parse(json.dumps(AS_OF_DOCUMENT)) == AS_OF


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"topics": [{"topic": "t", "topic_id": "no uuid", "ends": {}}], "repairs_until": null}',
        json.dumps(AS_OF_DOCUMENT).replace(": 7", ': "7"'),
        json.dumps(AS_OF_DOCUMENT).replace(": 7", ": -7"),
    ],
)
def test_what_is_no_ends_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="as_of"):
        parse(text)
