"""The protocol's table, step by step. What it guarantees as a whole is for tests/protocol to say."""

from itertools import accumulate

import pytest

from stream_processors.warehouse.protocol import Done, Examined, Failed, Outcome, State, Step, advance

OWNING = [Step.ASK, Step.IDENTIFY, Step.FENCE, Step.DRAIN, Step.RECONCILE, Step.ANNOUNCE]
WITH_A_BATCH = [*OWNING, Step.CONFIRM, Step.EXAMINE, Step.BURY, Step.PUBLISH, Step.INSERT, Step.COMMIT]


def walked(first: State, *outcomes: Outcome) -> list[Step]:
    """The steps from `first` on, each having come out as the next outcome says."""
    return [state.step for state in accumulate(outcomes, advance, initial=first)]


def test_a_partition_is_owned_in_one_order_and_then_waits_for_a_batch() -> None:
    assert walked(State(), *[Done()] * 7) == [Step.REST, *OWNING, Step.GATHER]


def test_a_batch_in_hand_is_delivered_as_soon_as_the_partition_is_owned_again() -> None:
    again = State(Step.ASK, batch_in_hand=True)

    assert walked(again, *[Done()] * 6) == [*OWNING, Step.CONFIRM]


def test_a_batch_is_confirmed_and_examined_before_anything_is_inserted() -> None:
    assert walked(State(Step.GATHER), Done(), Done()) == [Step.GATHER, Step.CONFIRM, Step.EXAMINE]


@pytest.mark.parametrize(
    ("burials", "inserts", "steps"),
    [
        (0, 0, []),
        (0, 1, [Step.INSERT]),
        (0, 3, [Step.INSERT] * 3),
        (1, 0, [Step.BURY, Step.PUBLISH]),
        (2, 2, [Step.BURY, Step.BURY, Step.PUBLISH, Step.INSERT, Step.INSERT]),
    ],
)
def test_dead_letters_then_their_topic_then_rows_then_the_commit(burials: int, inserts: int, steps: list[Step]) -> None:
    examining = State(Step.EXAMINE, batch_in_hand=True)
    clean = [Done()] * (len(steps) + 1)

    assert walked(examining, Examined(burials, inserts), *clean) == [Step.EXAMINE, *steps, Step.COMMIT, Step.GATHER]


def test_after_the_commit_no_batch_is_in_hand() -> None:
    assert advance(State(Step.COMMIT, batch_in_hand=True), Done()) == State(Step.GATHER)


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("batch_in_hand", [True, False])
def test_a_step_that_fails_leads_back_to_the_beginning_and_nothing_is_kept(step: Step, *, batch_in_hand: bool) -> None:
    assert advance(State(step, batch_in_hand, burials=2, inserts=3), Failed()) == State(Step.REST)


@pytest.mark.parametrize("step", WITH_A_BATCH)
def test_a_refusal_that_blames_the_data_leads_through_owning_again_and_keeps_the_batch_alone(step: Step) -> None:
    refused = advance(State(step, batch_in_hand=True, burials=2, inserts=3), Failed(keep_batch=True))

    assert refused == State(Step.ASK, batch_in_hand=True)


@pytest.mark.parametrize("step", [Step.REST, *OWNING, Step.GATHER])
def test_where_no_batch_is_in_hand_none_is_kept(step: Step) -> None:
    assert advance(State(step), Failed(keep_batch=True)) == State(Step.REST)


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.EXAMINE])
def test_only_an_examination_says_what_is_to_be_inserted(step: Step) -> None:
    with pytest.raises(AssertionError, match=step.name):
        advance(State(step, batch_in_hand=True), Examined(0, 1))
