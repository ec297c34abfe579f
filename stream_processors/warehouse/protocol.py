"""The protocol of one partition: which step follows which, and what an unclean end of one means. Pure.

There is one way in (ASK … ANNOUNCE: fence, drain, reconcile) and everything that is not a clean end leads back to its beginning.
The edges perform steps one at a time for a partition; `advance` alone decides what comes next. tests/protocol explores it with
crashes, zombies, late and lost requests at every step, and with each of its rules broken.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Step(Enum):
    """What is being done, or waited for."""

    REST = auto()
    """Nothing is known, nothing is owned; woken after a pause, or at once when the group has just given us the partition."""
    ASK = auto()
    """Is the partition still ours? The group is asked before another owner is disturbed."""
    IDENTIFY = auto()
    """Which topic goes by this name now: its id stands in every coordinate."""
    FENCE = auto()
    """Write a random owner that was never used before: every earlier writer is shut out from here on."""
    DRAIN = auto()
    """Wait for inserts of the partition that run already. Only after the fence: later arrivals are refused by it."""
    RECONCILE = auto()
    """Read the committed offset and what is accounted for from there. Only after the drain: now nothing moves."""
    ANNOUNCE = auto()
    """Record the gaps found; send the dead letters found to their topic again: their writer may have died before it did."""
    GATHER = auto()
    """Owned, and waiting for a batch."""
    CONFIRM = auto()
    """Is it still the topic that we own? Fetching goes by name, so this comes after the fetch and before any insert."""
    EXAMINE = auto()
    """Sort the batch into inserts; find what cannot be inserted."""
    BURY = auto()
    """Insert some of the batch's dead letters into their table, under the fence."""
    PUBLISH = auto()
    """Send them to their topic, and wait for its word."""
    INSERT = auto()
    """Insert some of the batch's rows, under the fence."""
    COMMIT = auto()
    """Let the group be told that all below the batch's end is in. Only after all its inserts: a commit says what is true."""


@dataclass(frozen=True, slots=True)
class Done:
    """The step ended clean; out of REST: the pause is over; out of GATHER: a batch was cut."""


@dataclass(frozen=True, slots=True)
class Examined:
    """EXAMINE ended clean, and this many inserts of each kind are to be made."""

    burials: int
    inserts: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The step did not end clean: whatever it asked for may have happened, may happen later, or never.

    With `keep_batch` the fetched records are still good (poison was refused): own again at once, and deliver them again.
    """

    keep_batch: bool = False


Outcome = Done | Examined | Failed


@dataclass(frozen=True, slots=True)
class State:
    """Where a partition stands. `burials` and `inserts` are those of the batch in hand that are still to be made."""

    step: Step = Step.REST
    batch_in_hand: bool = False
    burials: int = 0
    inserts: int = 0


_NEXT = {
    Step.REST: Step.ASK,
    Step.ASK: Step.IDENTIFY,
    Step.IDENTIFY: Step.FENCE,
    Step.FENCE: Step.DRAIN,
    Step.DRAIN: Step.RECONCILE,
    Step.RECONCILE: Step.ANNOUNCE,
    Step.GATHER: Step.CONFIRM,
    Step.CONFIRM: Step.EXAMINE,
    Step.COMMIT: Step.GATHER,
}

_HOLDS_A_BATCH = {Step.GATHER: True, Step.COMMIT: False}


def advance(state: State, outcome: Outcome) -> State:
    """The state after `state.step` came out as `outcome`."""
    match outcome:
        case Failed(keep_batch=True) if state.batch_in_hand:
            return State(Step.ASK, batch_in_hand=True)
        case Failed():
            return State(Step.REST)
        case Examined(burials, inserts):
            assert state.step is Step.EXAMINE, f"nothing is examined in {state.step}"
            return _next_insert(burials, inserts, published=burials == 0)
        case Done():
            return _after(state)


def _after(state: State) -> State:
    match state.step:
        case Step.BURY:
            return _next_insert(state.burials - 1, state.inserts, published=False)
        case Step.PUBLISH | Step.INSERT:
            return _next_insert(0, state.inserts - (state.step is Step.INSERT), published=True)
        case Step.ANNOUNCE:
            return State(Step.CONFIRM if state.batch_in_hand else Step.GATHER, state.batch_in_hand)
        case step:
            return State(_NEXT[step], _HOLDS_A_BATCH.get(step, state.batch_in_hand))


def _next_insert(burials: int, inserts: int, *, published: bool) -> State:
    """Dead letters first, then their topic, then rows: what is committed is in, and announced."""
    if burials:
        step = Step.BURY
    elif not published:
        step = Step.PUBLISH
    else:
        step = Step.INSERT if inserts else Step.COMMIT
    return State(step, batch_in_hand=True, burials=burials, inserts=inserts)
