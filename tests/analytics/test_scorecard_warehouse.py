"""What the scorecard counts, leaves out and says so, from rows in the real warehouse."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from analytics import scorecard_json
from analytics.config import SHIPPED_METRICS_DIRECTORY
from analytics.errors import UnknownExperiment
from analytics.metrics_catalog import Aggregate, Direction, Measure, Metric, MetricKind, Source, load_catalog
from analytics.results import Scorecard, TrafficCount
from analytics.scorecard import Question, scorecard
from analytics.warehouse import Warehouse
from schemas.events import Arm, ArmCount, ExperimentId, Micros, ProducerCheckpoint, ProducerId, Traffic
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import BEGAN_AT, SECOND, Ledger, definition

pytestmark = pytest.mark.integration

METRICS = tuple(load_catalog([SHIPPED_METRICS_DIRECTORY]).values())
Ask = Callable[[], Scorecard]


@pytest.fixture
def ask(warehouse: Warehouse, ledger: Ledger) -> Ask:
    return lambda: scorecard(warehouse, Question(ledger.experiment, METRICS))


def units(card: Scorecard) -> dict[str, int]:
    return {arm.name: arm.counts.units for arm in card.arms if arm.counts.units}


def clicks_per_unit(card: Scorecard, arm: str) -> float | None:
    return next(found for found in card.arms if found.name == arm).metric_means["clicks_per_unit"]


def spent_on(kind: str) -> Metric:
    return Metric(
        name="spent",
        title="Spent",
        description="Spent.",
        unit_of_measure="euros",
        kind=MetricKind.MEAN,
        better=Direction.HIGHER,
        numerator=Measure(Source.INTERACTIONS, Aggregate.SUM, kind),
    )


def test_an_event_that_was_sent_twice_counts_once_and_is_counted_as_a_duplicate(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    for number in range(3):
        ledger.serve(ledger.unit(number), BEGAN_AT, "control")
        ledger.act(ledger.unit(number), BEGAN_AT + SECOND, "click")
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    before = ask()
    ingest.write(ledger.served[:1])
    ingest.write(ledger.interactions[:2])
    after = ask()
    assert (after.left_out.duplicate_recommendations, after.left_out.duplicate_interactions) == (1, 2)
    assert (before.left_out.duplicate_recommendations, before.left_out.duplicate_interactions) == (0, 0)
    assert after.arms == before.arms
    assert (before.completeness.exposures_arrived, after.completeness.exposures_arrived) == (3, 4), "as an emitter counts them"


def test_of_two_copies_that_differ_the_first_that_arrived_counts(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    ledger.serve(ledger.unit(1), BEGAN_AT, "sampled")
    (first,) = ledger.served
    ours = replace(first.assignments[1], arm="fresh")
    ingest.write([first])
    ingest.write([replace(first, assignments=(first.assignments[0], ours))])
    assert units(ask()) == {"sampled": 1}


def test_rows_that_came_in_twice_under_the_same_coordinates_count_once_and_are_no_duplicates(
    ingest: Ingest, ledger: Ledger, ask: Ask
) -> None:
    ledger.serve(ledger.unit(1), BEGAN_AT, "control")
    ledger.act(ledger.unit(1), BEGAN_AT, "click")
    for records in (ledger.served, ledger.interactions):
        ingest.write(records, first_offset=ingest.write(records))
    card = ask()
    assert (card.left_out.duplicate_recommendations, card.left_out.duplicate_interactions) == (0, 0)
    assert clicks_per_unit(card, "control") == 1


def test_the_clock_starts_with_the_first_exposure(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    unit = ledger.unit(1)
    ledger.serve(unit, BEGAN_AT, "control", exposed=False)
    ledger.serve(unit, BEGAN_AT + 10 * SECOND, "control")
    for at in (BEGAN_AT + 5 * SECOND, BEGAN_AT + 10 * SECOND - 1, BEGAN_AT + 10 * SECOND, BEGAN_AT + 20 * SECOND):
        ledger.act(unit, at, "click")
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    card = ask()
    assert clicks_per_unit(card, "control") == 2
    assert card.left_out.interactions_before_exposure == 2
    assert card.arms[0].metric_means["click_through_rate"] == 2


def test_an_exposure_by_a_flag_is_no_answered_request(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    ledger.serve(ledger.unit(1), BEGAN_AT, "control")
    ledger.serve(ledger.unit(1), BEGAN_AT + SECOND, "control")
    ledger.serve(ledger.unit(2), BEGAN_AT, "sampled")
    ledger.act(ledger.unit(1), BEGAN_AT + 2 * SECOND, "click")
    flags = (replace(event, policy_id="flag:layout", slots=(), degraded=None) for event in ledger.served[1:])
    ingest.write([replace(ledger.served[0], slots=(), degraded=None), *flags])
    ingest.write(ledger.interactions)
    card = ask()
    assert units(card) == {"control": 1, "sampled": 1}, "exposed all the same"
    assert next(arm for arm in card.arms if arm.name == "control").metric_means["click_through_rate"] == 1
    assert next(arm for arm in card.arms if arm.name == "control").counts.exposed_requests == 2


def test_a_crossover_stays_with_its_first_arm(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    for second, arm in enumerate(["sampled", "control", "control"]):
        ledger.serve(ledger.unit(1), BEGAN_AT + second * SECOND, arm)
    ledger.act(ledger.unit(1), BEGAN_AT + 9 * SECOND, "click")
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    card = ask()
    assert units(card) == {"sampled": 1}
    assert clicks_per_unit(card, "sampled") == 1
    assert card.arms[0].counts.crossovers == 1
    assert card.alarms[0].code == "crossovers"


def test_other_traffic_is_left_out_and_counted_by_kind(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    unit = ledger.unit(1)
    ledger.serve(unit, BEGAN_AT, "control")
    for traffic, number in ((Traffic.BOT, 2), (Traffic.BOT, 3), (Traffic.INTERNAL, 1)):
        ledger.serve(ledger.unit(number), BEGAN_AT, "sampled", traffic=traffic)
    ledger.serve(ledger.unit(2), BEGAN_AT + SECOND, "sampled", traffic=Traffic.BOT)
    ledger.act(unit, BEGAN_AT + SECOND, "click", traffic=Traffic.INTERNAL)
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    card = ask()
    assert card.left_out.other_traffic == (TrafficCount("bot", 2, 3), TrafficCount("internal", 1, 1))
    assert units(card) == {"control": 1}
    assert clicks_per_unit(card, "control") == 0


def test_assigned_is_not_exposed(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    ledger.serve(ledger.unit(1), BEGAN_AT, "control")
    for number, second in ((1, 1), (2, 0), (2, 1), (3, 0)):
        ledger.serve(ledger.unit(number), BEGAN_AT + second * SECOND, "sampled", exposed=False)
    ledger.serve(ledger.unit(4), BEGAN_AT, None)
    ingest.write(ledger.served)
    card = ask()
    assert units(card) == {"control": 1}
    assert (card.left_out.units_never_exposed, card.left_out.requests_not_exposed) == (2, 4)


def test_sizes_are_checked_against_the_weights_of_the_revision_that_units_were_exposed_under(
    ingest: Ingest, ledger: Ledger, ask: Ask
) -> None:
    for number in range(90):
        ledger.serve(ledger.unit(number), BEGAN_AT, "sampled" if number % 3 else "control")
    told = replace(definition(ledger.experiment), arms=(Arm("control", 1), Arm("sampled", 2)))
    ingest.write(ledger.served)
    ingest.write([told, replace(told, revision=2, arms=(Arm("control", 9), Arm("sampled", 1)))])
    card = ask()
    assert card.definition is not None
    assert card.definition.revision == 2
    assert [(check.revisions, check.p_value) for check in card.sample_ratio] == [((1,), 1.0)]


def test_a_checkpoint_says_how_much_is_still_missing(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    for number in range(4):
        ledger.serve(ledger.unit(number), BEGAN_AT, "control")
    emitter = ProducerId(ledger.uuid())
    counted = (ArmCount(ledger.experiment, "control", 5), ArmCount(ExperimentId("other"), "control", 99))
    early = ProducerCheckpoint(
        producer_id=emitter,
        topic="recommendations",
        occurred_at=Micros(BEGAN_AT),
        next_seq=2,
        emitted=2,
        acknowledged=2,
        queued=0,
        spooled=0,
        dropped={},
        counts=(replace(counted[0], count=2),),
        closed=False,
    )
    ingest.write(ledger.served)
    ingest.write(
        [early, replace(early, next_seq=5, counts=counted, closed=True), replace(early, topic="interactions", next_seq=9)]
    )
    completeness = ask().completeness
    assert (completeness.exposures_emitted, completeness.exposures_arrived) == (5, 4)
    assert (completeness.emitters, completeness.emitters_open) == (1, 0)


def test_a_value_that_is_not_a_number_gives_null_and_a_reason(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    kind = "it's a 'kind'"
    for number in range(4):
        ledger.serve(ledger.unit(number), BEGAN_AT, "control" if number % 2 else "sampled")
        ledger.act(ledger.unit(number), BEGAN_AT + SECOND, kind, math.nan if number == 1 else 2.0)
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    card = scorecard(warehouse, Question(ledger.experiment, (spent_on(kind),)))
    assert {arm.name: arm.metric_means["spent"] for arm in card.arms} == {"control": None, "sampled": 2.0}
    assert card.comparison("spent", "sampled").difference.p.reason == "the control holds a value that is not finite"
    assert "NaN" not in scorecard_json.render(card)


def test_a_window_ends_before_its_last_moment(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    ledger.serve(ledger.unit(1), BEGAN_AT, "control")
    hour = 3600 * SECOND
    for after, value in ((0, 1.0), (hour - 1, 10.0), (hour, 100.0)):
        ledger.act(ledger.unit(1), BEGAN_AT + after, "purchase", value)
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    within_an_hour = replace(spent_on("purchase"), window_hours=1)
    card = scorecard(warehouse, Question(ledger.experiment, (within_an_hour,)))
    assert card.arms[0].metric_means["spent"] == 11


def test_a_small_variance_far_from_zero_is_not_lost(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    for number in range(400):
        ledger.serve(ledger.unit(number), BEGAN_AT, "control")
        ledger.act(ledger.unit(number), BEGAN_AT, "purchase", 1e9 + number % 4)
    ingest.write(ledger.served)
    ingest.write(ledger.interactions)
    (cell,) = warehouse.snapshot(warehouse.as_of()).cells(ledger.experiment, "live", (spent_on("purchase"),))
    assert cell.moments["spent"].var("numerator") == pytest.approx(1.25 * 400 / 399, rel=1e-6)


def test_without_a_metric_there_are_still_counts(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    ledger.serve(ledger.unit(1), BEGAN_AT, "control")
    ingest.write(ledger.served)
    assert units(scorecard(warehouse, Question(ledger.experiment, ()))) == {"control": 1}


def test_an_experiment_that_is_defined_and_not_yet_exposed_has_empty_arms(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    ingest.write([definition(ledger.experiment)])
    card = ask()
    assert [arm.counts.units for arm in card.arms] == [0, 0, 0]
    assert card.completeness.newest_arrival_at is None


def test_an_unknown_experiment_is_answered_with_the_known_ones(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    ingest.write([definition(ledger.experiment)])
    with pytest.raises(UnknownExperiment) as unknown:
        scorecard(warehouse, Question("nobody-has-heard-of-it", METRICS))
    assert ledger.experiment in unknown.value.known
    assert ledger.experiment in str(unknown.value)
