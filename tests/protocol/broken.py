"""Protocols with one rule broken: each is the sink's own `advance` with some of its answers replaced.

So a change of stream_processors/warehouse/protocol.py changes what is explored here as well.
"""

from dataclasses import replace

from stream_processors.warehouse.protocol import Done, Examined, Failed, Outcome, State, Step, advance
from tests.protocol.table import Advance


def skipping(left_out: Step) -> Advance:
    """Without one step: it counts as done before it begins."""

    def broken(state: State, outcome: Outcome) -> State:
        after = advance(state, outcome)
        return advance(after, Done()) if after.step is left_out else after

    return broken


def exchanging(first: Step, second: Step) -> Advance:
    """With two steps that follow each other in the other order."""
    other = {first: second, second: first}

    def broken(state: State, outcome: Outcome) -> State:
        after = advance(replace(state, step=other.get(state.step, state.step)), outcome)
        return replace(after, step=other.get(after.step, after.step))

    return broken


def inserting_again(state: State, outcome: Outcome) -> State:
    """An unclean answer to an insert: the insert is sent again, and nothing is owned anew."""
    unclean = isinstance(outcome, Failed) and not outcome.keep_batch
    return state if unclean and state.step in (Step.BURY, Step.INSERT) else advance(state, outcome)


def searching_at_once(state: State, outcome: Outcome) -> State:
    """A refusal that blames the data: the batch is searched and delivered, and nothing is owned anew."""
    blamed = isinstance(outcome, Failed) and outcome.keep_batch
    return State(Step.EXAMINE, batch_in_hand=True) if blamed and state.batch_in_hand else advance(state, outcome)


def committing_first(state: State, outcome: Outcome) -> State:
    """The commit goes out before the batch's inserts, dead letters and all."""
    if isinstance(outcome, Examined):
        return State(Step.COMMIT, batch_in_hand=True, burials=outcome.burials, inserts=outcome.inserts)
    if state.step is Step.COMMIT and isinstance(outcome, Done) and state.burials + state.inserts:
        return advance(replace(state, step=Step.EXAMINE), Examined(state.burials, state.inserts))
    after = advance(state, outcome)
    return State(Step.GATHER) if after.step is Step.COMMIT else after


def committing_before_publishing(state: State, outcome: Outcome) -> State:
    """Rows, commit, and only then the topic of dead letters."""
    after = advance(state, outcome)
    if state.step is Step.PUBLISH and isinstance(outcome, Done):
        return State(Step.GATHER)
    if state.step is Step.COMMIT and isinstance(outcome, Done):
        return replace(state, step=Step.PUBLISH)
    return advance(after, Done()) if after.step is Step.PUBLISH else after


def publishing_first(state: State, outcome: Outcome) -> State:
    """The topic of dead letters hears of them before the table has them."""
    if isinstance(outcome, Examined) and outcome.burials:
        return replace(advance(state, outcome), step=Step.PUBLISH)
    if state.step is Step.PUBLISH and isinstance(outcome, Done):
        return replace(state, step=Step.BURY)
    after = advance(state, outcome)
    return advance(after, Done()) if after.step is Step.PUBLISH else after


def never_committing(state: State, outcome: Outcome) -> State:
    """Every batch goes in, and the group never hears of it."""
    after = advance(state, outcome)
    return advance(after, Done()) if after.step is Step.COMMIT else after
