"""From wishes to revisions: what is filled in, what is unchanged, and that a plan is good on one base only."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.events import BucketRange, ExperimentDefinition, ExperimentId, ExperimentKind, ExperimentStatus, Micros
from schemas.experiment_plans import Author, PlanRefused, ending, plan_of
from tests.schemas.experiment_samples import DEFINITION, NOW

LATER = Author("alice", Micros(NOW + 1_000))
WISH = replace(DEFINITION, revision=0, changed_by="", changed_at=Micros(0), effective_at=Micros(0))
PARTLY = replace(DEFINITION, bucket_ranges=(BucketRange(0, 10),))


def planned(*wishes: ExperimentDefinition, known: tuple[ExperimentDefinition, ...] = ()) -> tuple[ExperimentDefinition, ...]:
    return plan_of(wishes, known, LATER).revisions()


def test_what_is_left_out_is_filled_in() -> None:
    plan = plan_of([WISH], [], LATER)
    assert plan.revisions() == (
        replace(
            DEFINITION, revision=1, changed_by="alice", changed_at=LATER.now, effective_at=LATER.now, plan_hash=plan.plan_hash
        ),
    )
    (grown,) = planned(WISH, known=(PARTLY,))
    assert (grown.revision, grown.bucket_ranges) == (2, DEFINITION.bucket_ranges)


def test_what_stands_already_is_not_published_again() -> None:
    plan = plan_of(
        [
            WISH,
            replace(
                WISH,
                experiment_id=ExperimentId("ab-2"),
                arm_salt="arm-2",
                layer_id="b",
                layer_salt="b",
                kind=ExperimentKind.AA,
                arms=(replace(WISH.arms[0], name="x"), WISH.arms[0]),
            ),
        ],
        [DEFINITION],
        LATER,
    )
    assert (plan.unchanged, [each.experiment_id for each in plan.revisions()]) == (("ab-1",), ["ab-2"])


@pytest.mark.parametrize(("wished", "at"), [(0, 1_000), (NOW - 5, 1_000), (NOW + 5_000, 5_000)])
def test_it_takes_effect_when_wished_and_not_in_the_past(wished: int, at: int) -> None:
    (revision,) = planned(replace(WISH, effective_at=Micros(wished)))
    assert revision.effective_at == NOW + at


def test_observed_experiments_may_have_a_past() -> None:
    (revision,) = planned(replace(WISH, kind=ExperimentKind.OBSERVED, effective_at=Micros(5), ended_at=Micros(7)))
    assert (revision.effective_at, revision.ended_at) == (5, 7)


def test_an_end_has_its_time() -> None:
    (end,) = planned(ending(DEFINITION), known=(DEFINITION,))
    assert (end.status, end.revision, end.effective_at, end.ended_at) == (ExperimentStatus.ENDED, 2, LATER.now, LATER.now)
    assert end.changed_by == "alice"


@pytest.mark.parametrize(
    ("revision", "changes", "fault"),
    [
        (1, {}, None),
        (2, {"owner": "else"}, None),
        (2, {}, "ab-1: names the revision 2, and 1 stands; leave it out, or make it 2"),
        (1, {"owner": "else"}, "ab-1: names the revision 1, and 1 stands; leave it out, or make it 2"),
        (3, {"owner": "else"}, "ab-1: names the revision 3, and 1 stands; leave it out, or make it 2"),
    ],
)
def test_a_revision_that_is_named_has_to_be_the_one_that_comes(revision: int, changes: dict[str, Any], fault: str | None) -> None:
    wish = replace(WISH, revision=revision, **changes)
    if fault is None:
        assert len(planned(wish, known=(DEFINITION,))) == len(changes)
        return
    with pytest.raises(PlanRefused) as refusal:
        planned(wish, known=(DEFINITION,))
    assert refusal.value.problems == (fault,)


PAST_THE_DESK = {ExperimentId("ab-1"): 4}
"""Workers refuse ab-1:4, which the topic has."""


def test_what_comes_is_numbered_after_what_workers_refuse_and_made_on_what_they_take() -> None:
    (change,) = plan_of([replace(WISH, owner="else")], [DEFINITION], LATER, highest=PAST_THE_DESK).changes
    assert (change.revision.revision, change.base) == (5, DEFINITION)
    assert change.differences == ("numbered after ab-1:4, which workers refuse", "owner: ranking → else")
    (new,) = plan_of([WISH], [], LATER, highest=PAST_THE_DESK).changes
    assert (new.revision.revision, new.base) == (5, None)


def test_what_stands_is_published_again_over_what_workers_refuse() -> None:
    again = plan_of([WISH], [DEFINITION], LATER, highest=PAST_THE_DESK)
    (revision,) = again.revisions()
    assert replace(revision, revision=1, changed_by="somebody", changed_at=NOW, effective_at=NOW, plan_hash=None) == DEFINITION
    healed = plan_of([WISH], [DEFINITION, revision], LATER, highest={ExperimentId("ab-1"): revision.revision})
    assert (healed.changes, healed.unchanged) == ((), ("ab-1",))
    with pytest.raises(PlanRefused, match="names the revision 1, and 1 stands; leave it out, or make it 5"):
        plan_of([replace(WISH, revision=1)], [DEFINITION], LATER, highest=PAST_THE_DESK)


def test_what_is_published_again_takes_effect_when_it_would_have() -> None:
    for effective_at in (NOW + 5_000, NOW - 5_000):
        standing = replace(DEFINITION, effective_at=Micros(effective_at))
        (revision,) = plan_of([WISH], [standing], LATER, highest=PAST_THE_DESK).revisions()
        assert revision.effective_at == max(effective_at, LATER.now)
    seen = replace(DEFINITION, kind=ExperimentKind.OBSERVED, effective_at=Micros(5))
    (revision,) = plan_of([replace(seen, effective_at=Micros(0), revision=0)], [seen], LATER, highest=PAST_THE_DESK).revisions()
    assert revision.effective_at == 5


def test_after_an_end_nothing_is_published_over_what_workers_refuse() -> None:
    end = replace(DEFINITION, status=ExperimentStatus.ENDED)
    assert plan_of([replace(end, revision=0)], [end], LATER, highest=PAST_THE_DESK).unchanged == ("ab-1",)


def test_the_hash_is_another_one_where_more_has_come_that_workers_refuse() -> None:
    hashes = {plan_of([WISH], [PARTLY], LATER, highest={ExperimentId("ab-1"): highest}).plan_hash for highest in (1, 2, 3)}
    assert len(hashes) == 3


@pytest.mark.parametrize("name", ["ranking #2", "ranking 2", " ab", "ab ", "a\nb", "a\u2028b", "ab=1", "größe", ""])
def test_an_id_that_a_kill_file_could_not_name_begins_no_experiment_and_ends_one(name: str) -> None:
    with pytest.raises(PlanRefused, match="is no id for a new experiment"):
        planned(replace(WISH, experiment_id=ExperimentId(name)))
    running = replace(DEFINITION, experiment_id=ExperimentId(name or "#"))
    (end,) = planned(ending(running), known=(running,))
    assert end.status is ExperimentStatus.ENDED


@pytest.mark.parametrize("name", ["ranking-2026", "A.b_c-1", "7"])
def test_other_ids_begin_experiments(name: str) -> None:
    (revision,) = planned(replace(WISH, experiment_id=ExperimentId(name)))
    assert revision.experiment_id == name


def test_an_experiment_is_wished_for_once() -> None:
    with pytest.raises(PlanRefused, match="ab-1: is wished for more than once"):
        planned(WISH, WISH)


def test_faults_that_stand_in_the_topic_already_stop_nobody_else() -> None:
    broken = replace(DEFINITION, experiment_id=ExperimentId("bad"), arm_salt="bad", owner="", status=ExperimentStatus.DRAFT)
    assert len(planned(WISH, known=(broken,))) == 1


def test_the_hash_is_that_of_the_wishes_and_their_base_and_not_of_the_time() -> None:
    one = plan_of([WISH], [PARTLY], LATER).plan_hash
    assert plan_of([WISH], [PARTLY], Author("bob", Micros(NOW + 9))).plan_hash == one
    assert plan_of([WISH], [PARTLY, replace(PARTLY, revision=2)], LATER).plan_hash != one
    assert plan_of([replace(WISH, owner="else")], [PARTLY], LATER).plan_hash != one
    elsewhere = replace(PARTLY, experiment_id=ExperimentId("ab-2"), status=ExperimentStatus.DRAFT, arm_salt="arm-2")
    assert plan_of([WISH], [PARTLY, elsewhere], LATER).plan_hash == one, "what others do elsewhere is no matter"
