"""Producers judged by counts, against a model that knows which number became of what."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.errors import Loss
from stream_processors.audit.emitters import (
    UNNUMBERED_LOSSES,
    Excuses,
    State,
    Steps,
    Stream,
    StreamReport,
    Told,
    judge,
    judge_topic,
)

PATIENCE_MS = 10_000
NOW_MS = 1_000_000
NO_EXCUSE = Excuses(unreadable=0, endless_ms=0)


def stream(
    seen: set[int],
    *,
    next_seq: int,
    closed: bool = False,
    dropped: dict[str, int] | None = None,
    queued: int = 0,
    spooled: int = 0,
    due_seq: int = 0,
    complete_us: int | None = None,
    heard_ms: int = NOW_MS,
) -> Stream:
    return Stream(
        topic="interactions",
        producer_id=UUID(int=1),
        rows=len(seen),
        seen=len(seen),
        seen_end=max(seen, default=-1) + 1,
        first_event_ms=1,
        last_event_ms=0,
        told=Told(next_seq, dropped or {}, queued, spooled, closed, 5, heard_ms),
        steps=Steps(
            seen_below_next=sum(number < next_seq for number in seen),
            complete_us=complete_us,
            due_seq=due_seq,
            seen_below_due=sum(number < due_seq for number in seen),
        ),
    )


def judged(stream: Stream) -> StreamReport:
    return judge(stream, NOW_MS, PATIENCE_MS)


@given(st.lists(st.sampled_from(["arrived", "dropped", "lost"]), max_size=30))
def test_of_a_closed_producer_just_those_are_missing_that_were_neither_dropped_nor_arrived(fates: list[str]) -> None:
    seen = {number for number, fate in enumerate(fates) if fate == "arrived"}
    report = judged(stream(seen, next_seq=len(fates), closed=True, dropped={"encode": fates.count("dropped"), "queue_full": 3}))

    assert report.missing == fates.count("lost")
    assert report.state is (State.MISSING if report.missing else State.COMPLETE)
    assert report.awaited == 0


@given(st.lists(st.sampled_from(["arrived", "dropped", "spooled"]), max_size=30))
def test_a_closed_producer_is_complete_when_what_it_left_on_its_disk_has_arrived(fates: list[str]) -> None:
    seen = {number for number, fate in enumerate(fates) if fate == "arrived"}
    left = fates.count("spooled")
    told = stream(seen, next_seq=len(fates), closed=True, dropped={"encode": fates.count("dropped")}, spooled=left)
    report = judged(told)

    assert (report.missing, report.waiting, report.state) == (0, left, State.SPOOLED if left else State.COMPLETE)

    arrived = {number for number, fate in enumerate(fates) if fate != "dropped"}
    late = stream(arrived, next_seq=len(fates), closed=True, dropped={"encode": fates.count("dropped")}, spooled=left)
    assert (judged(late).waiting, judged(late).state) == (0, State.COMPLETE)


@given(st.lists(st.sampled_from(["arrived", "late"]), max_size=30), st.integers(0, 30))
def test_of_a_live_producer_only_what_it_used_a_patience_ago_is_missing(fates: list[str], due: int) -> None:
    due = min(due, len(fates))
    seen = {number for number, fate in enumerate(fates) if fate == "arrived"}
    report = judged(stream(seen, next_seq=len(fates), due_seq=due))

    assert report.missing == fates[:due].count("late")
    assert report.awaited == fates[due:].count("late")


def test_a_silent_producer_is_unknown_and_what_it_lacks_before_its_end_is_counted_without_a_verdict() -> None:
    long_ago = NOW_MS - PATIENCE_MS - 1
    dead = judged(stream({0, 2}, next_seq=2, heard_ms=long_ago))
    topic = judge_topic("t", [dead], NO_EXCUSE, NOW_MS)

    assert judged(stream({0, 1, 2}, next_seq=3, heard_ms=long_ago)).state is State.UNKNOWN
    assert (dead.state, dead.missing) == (State.UNKNOWN, 1)
    assert (topic.unknown, topic.missing, topic.sound) == (1, 0, True)
    assert judged(stream({0, 1}, next_seq=3, heard_ms=NOW_MS - PATIENCE_MS)).state is State.LIVE


def test_a_topic_is_complete_up_to_the_least_of_its_live_producers() -> None:
    live = [judged(stream({0}, next_seq=2, complete_us=time)) for time in (70, 50)]
    closed = judged(stream({0}, next_seq=1, closed=True, complete_us=10))
    unheard = judged(stream({0}, next_seq=2, complete_us=None))

    assert judge_topic("t", [*live, closed], NO_EXCUSE, NOW_MS).complete_up_to_us == 50
    assert judge_topic("t", [*live, unheard], NO_EXCUSE, NOW_MS).complete_up_to_us is None
    assert judge_topic("t", [closed], NO_EXCUSE, NOW_MS).complete_up_to_us is None


@pytest.mark.parametrize(("excuses", "unexplained"), [(NO_EXCUSE, 2), (Excuses(1, 0), 1), (Excuses(5, 0), 0), (Excuses(0, 1), 0)])
def test_missing_numbers_may_be_dead_letters_or_in_recorded_gaps(excuses: Excuses, unexplained: int) -> None:
    lossy = judged(stream({0, 3}, next_seq=4, closed=True))

    topic = judge_topic("t", [lossy], excuses, NOW_MS)

    assert (topic.missing, topic.unexplained, topic.sound) == (2, unexplained, not unexplained)


def test_a_gap_without_an_end_excuses_nobody_who_began_after_it() -> None:
    lossy = judged(stream({0, 3}, next_seq=4, closed=True))

    assert judge_topic("t", [lossy], Excuses(0, endless_ms=lossy.began_ms), NOW_MS).unexplained == 0
    assert judge_topic("t", [lossy], Excuses(0, endless_ms=lossy.began_ms - 1), NOW_MS).unexplained == 2


def test_the_losses_that_use_no_number_are_those_of_the_producers() -> None:
    """The auditor may not import them; what happens on the caller's thread and shows in a checkpoint uses none."""
    assert set(UNNUMBERED_LOSSES) == {Loss.QUEUE_FULL, Loss.CLOSED, Loss.WRONG_EVENT}
