"""Ranges that shrink: buckets with exposed units stay or come back, all others go, and there are never too many ranges."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.events import BucketRange, ExperimentDefinition, ExperimentId, ExperimentStatus, Micros
from schemas.experiment_history import QUARANTINE_S
from schemas.experiment_plans import Author, Plan, PlanRefused, plan_of
from schemas.experiment_ranges import Ranges, bridged, of_buckets, shared, size, united, without
from schemas.experiment_rules import RANGES_MAX
from schemas.experiment_shrinks import Exposed, ExposedUnits, Settlement, settled, shrinks_of, takeovers_of
from tests.schemas.experiment_samples import DEFINITION, NOW

NONE = Exposed(0, 0)
QUARANTINE_US = QUARANTINE_S * 1_000_000
RUNNING = replace(DEFINITION, bucket_ranges=(BucketRange(0, 100),))
spans = st.builds(lambda first, width: BucketRange(first, first + width), st.integers(0, 60), st.integers(1, 12))
some_ranges = st.lists(spans, max_size=6).map(tuple)


def wish(first: int, end: int, **changes: object) -> ExperimentDefinition:
    fresh = replace(RUNNING, revision=0, bucket_ranges=(BucketRange(first, end),), effective_at=Micros(0))
    return replace(fresh, **changes)  # type: ignore[arg-type]


def planned(
    wished: ExperimentDefinition, known: list[ExperimentDefinition], exposed: ExposedUnits, after_us: int = 1_000
) -> Plan:
    now = Micros(NOW + after_us)
    settlements = {each.wish.experiment_id: settled(each, exposed) for each in shrinks_of([wished], known, now)}
    return plan_of([wished], known, Author("alice", now), settlements)


def spans_of(ranges: Ranges) -> list[tuple[int, int]]:
    return [(span.first, span.end) for span in ranges]


def settlement_of(plan: Plan) -> Settlement:
    (settlement,) = plan.settlements.values()
    return settlement


def buckets_of(ranges: Ranges) -> set[int]:
    return {bucket for span in ranges for bucket in range(span.first, span.end)}


@given(some_ranges, some_ranges)
def test_sets_of_ranges_are_sets_of_buckets_in_order_and_apart(one: Ranges, other: Ranges) -> None:
    here, there = buckets_of(one), buckets_of(other)
    for found, expected in (
        (united(one, other), here | there),
        (without(one, other), here - there),
        (shared(one, other), here & there),
    ):
        assert (buckets_of(found), size(found)) == (expected, len(expected))
        assert found == of_buckets(expected)
        assert all(before.end < after.first for before, after in pairwise(found))


@given(some_ranges, some_ranges, st.integers(1, 4))
def test_gaps_are_filled_only_where_they_may_be_and_only_as_far_as_they_must(ranges: Ranges, over: Ranges, most: int) -> None:
    found = bridged(ranges, over, most)
    added = buckets_of(found) - buckets_of(ranges)
    assert buckets_of(ranges) <= buckets_of(found)
    assert added <= buckets_of(over)
    if len(united(ranges)) <= most:
        assert not added
    else:
        assert len(found) >= most


def test_the_smallest_gaps_are_filled_first() -> None:
    ranges = of_buckets([0, 5, 8, 20, 23])
    everywhere = [BucketRange(0, 30)]
    assert spans_of(bridged(ranges, everywhere, 3)) == [(0, 1), (5, 9), (20, 24)]
    assert spans_of(bridged(ranges, everywhere, 2)) == [(0, 9), (20, 24)]
    assert spans_of(bridged(ranges, [BucketRange(0, 7), BucketRange(9, 30)], 3)) == [(0, 6), (8, 9), (20, 24)]


def test_buckets_with_exposed_units_stay_and_all_others_go() -> None:
    plan = planned(wish(0, 50), [RUNNING], {10: 7, 60: 1, 61: 2, 99: 1, 100: 9})
    (change,) = plan.changes
    assert spans_of(change.revision.bucket_ranges) == [(0, 50), (60, 62), (99, 100)]
    assert settlement_of(plan) == Settlement(change.revision.bucket_ranges, 47, Exposed(3, 4), NONE, NONE, 0)


def test_the_same_file_again_changes_nothing_while_nothing_is_heard_of() -> None:
    exposed = {60: 1}
    revisions = planned(wish(0, 50), [RUNNING], exposed).revisions()
    again = planned(wish(0, 50), [RUNNING, *revisions], exposed, after_us=2_000)
    assert (again.changes, again.unchanged) == ((), ("ab-1",))
    assert settlement_of(again).stays == Exposed(1, 1)


def test_exposures_that_are_heard_of_late_bring_their_buckets_back() -> None:
    revisions = planned(wish(0, 50), [RUNNING], {60: 1}).revisions()
    late = planned(wish(0, 50), [RUNNING, *revisions], {60: 1, 70: 2, 71: 1}, after_us=2_000)
    (change,) = late.changes
    assert spans_of(change.revision.bucket_ranges) == [(0, 50), (60, 61), (70, 72)]
    assert (change.revision.revision, settlement_of(late).late, settlement_of(late).given_up_buckets) == (3, Exposed(2, 3), 0)


def test_what_is_another_experiments_by_then_does_not_come_back_and_is_told() -> None:
    revisions = planned(wish(0, 50), [RUNNING], {}).revisions()
    heir = wish(70, 80, experiment_id=ExperimentId("ab-2"), arm_salt="arm-2", effective_at=Micros(NOW + 1_000 + QUARANTINE_US))
    heirs = planned(heir, [RUNNING, *revisions], {}, after_us=2_000).revisions()
    late = planned(wish(0, 50), [RUNNING, *revisions, *heirs], {60: 1, 70: 2}, after_us=3_000)
    assert spans_of(late.changes[0].revision.bucket_ranges) == [(0, 50), (60, 61)]
    assert (settlement_of(late).late, settlement_of(late).lost) == (Exposed(1, 1), Exposed(1, 2))


def test_with_no_ranges_wished_only_the_buckets_of_exposed_units_stay() -> None:
    nothing = wish(0, 0, bucket_ranges=())
    assert spans_of(planned(nothing, [RUNNING], {60: 1}).revisions()[0].bucket_ranges) == [(60, 61)]
    with pytest.raises(PlanRefused, match="has no bucket ranges"):
        planned(nothing, [RUNNING], {})


def test_whoever_wants_what_a_running_experiment_gave_up_has_to_ask_for_its_exposed_units() -> None:
    (shrunk,) = planned(wish(0, 50), [RUNNING], {}).revisions()
    heir = wish(40, 80, experiment_id=ExperimentId("ab-2"), arm_salt="arm-2")
    (takeover,) = takeovers_of([heir], [RUNNING, shrunk])
    assert (takeover.giver, spans_of(takeover.buckets)) == (shrunk, [(50, 80)])
    ended = replace(shrunk, revision=3, status=ExperimentStatus.ENDED)
    assert not list(takeovers_of([heir], [RUNNING, shrunk, ended])), "with an end its units are everybody's"
    assert not list(takeovers_of([replace(heir, status=ExperimentStatus.DRAFT)], [RUNNING, shrunk]))
    assert not list(takeovers_of([heir], [RUNNING, shrunk, heir])), "what it has is no longer wanted"
    assert not list(takeovers_of([wish(0, 80)], [RUNNING, shrunk])), "to take back one's own is no takeover"


def test_a_range_can_move_while_those_who_were_exposed_stay() -> None:
    plan = planned(wish(200, 300), [RUNNING], {60: 1})
    assert spans_of(plan.changes[0].revision.bucket_ranges) == [(60, 61), (200, 300)]


def test_an_end_keeps_nothing_and_asks_nobody() -> None:
    assert not list(shrinks_of([wish(0, 50, status=ExperimentStatus.ENDED)], [RUNNING], NOW))
    assert not list(shrinks_of([wish(0, 50)], [replace(RUNNING, status=ExperimentStatus.DRAFT)], NOW))
    assert not list(shrinks_of([wish(0, 150)], [RUNNING], NOW))
    assert list(shrinks_of([wish(0, 50, status=ExperimentStatus.PAUSED)], [RUNNING], NOW))


def test_nothing_is_given_up_without_asking_nor_ahead_of_time() -> None:
    with pytest.raises(PlanRefused, match="nobody has asked who was exposed there"):
        plan_of([wish(0, 50)], [RUNNING], Author("alice", Micros(NOW + 1_000)))
    with pytest.raises(PlanRefused, match="gives up buckets ahead of time"):
        planned(wish(0, 50, effective_at=Micros(NOW + 2_000)), [RUNNING], {60: 1})


def test_a_plan_that_was_shown_holds_while_more_units_are_exposed() -> None:
    shown, made = (planned(wish(0, 50), [RUNNING], exposed) for exposed in ({60: 1}, {60: 1, 61: 1}))
    assert shown.plan_hash == made.plan_hash
    assert shown.revisions()[0].bucket_ranges != made.revisions()[0].bucket_ranges
    assert planned(wish(0, 51), [RUNNING], {60: 1}).plan_hash != shown.plan_hash


def test_many_exposed_buckets_make_no_more_ranges_than_a_definition_holds() -> None:
    whole = replace(RUNNING, bucket_ranges=(BucketRange(0, 1_000_000),))
    exposed = {bucket: 1 for bucket in range(500_000, 1_000_000) if bucket % 100 == 1 or bucket % 300 == 50}
    plan = planned(wish(0, 500_000), [whole], exposed)
    (change,) = plan.changes
    assert len(change.revision.bucket_ranges) == RANGES_MAX
    assert buckets_of(of_buckets(exposed)) <= buckets_of(change.revision.bucket_ranges)
    settlement = settlement_of(plan)
    assert settlement.stays == Exposed(len(exposed), len(exposed))
    assert settlement.given_up_buckets + settlement.filled_buckets + len(exposed) == 500_000
    assert settlement.given_up_buckets >= (RANGES_MAX - 1) * 49, "the widest gaps are those that are given up"


def test_a_definition_with_all_its_ranges_is_small_for_a_topic_and_for_a_snapshot() -> None:
    ranges = tuple(BucketRange(999_000 + number, 999_001 + number) for number in range(RANGES_MAX))
    large = replace(RUNNING, bucket_ranges=ranges)
    assert len(Codec(ExperimentDefinition).encode(large, 1)) < 10_000
    assert len(json.dumps(asdict(large), separators=(",", ":"))) < 40_000


@given(st.lists(st.tuples(some_ranges, st.dictionaries(st.integers(0, 80), st.integers(1, 3), max_size=8)), max_size=5))
def test_a_bucket_with_a_known_exposure_is_never_outside_as_long_as_nobody_else_has_it(
    steps: list[tuple[Ranges, dict[int, int]]],
) -> None:
    known, exposed = [RUNNING], dict[int, int]()
    for number, (ranges, heard_of) in enumerate(steps):
        exposed |= heard_of
        plan = planned(
            wish(0, 1, bucket_ranges=united(ranges, [BucketRange(90, 91)])), known, exposed, after_us=1_000 * (number + 1)
        )
        known += plan.revisions()
        held = {bucket for each in known for bucket in buckets_of(each.bucket_ranges)}
        now = buckets_of(known[-1].bucket_ranges)
        assert exposed.keys() & held <= now
        assert now == buckets_of(ranges) | {90} | (exposed.keys() & held)
