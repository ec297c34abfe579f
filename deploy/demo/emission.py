"""The log, out through an emitter as serving emits. Where serving would lose an event rather than wait, this waits."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from deploy.demo.open_bandit import click, served
from deploy.demo.open_bandit_log import Impression
from producers.emitter import Emitter, EmitterStatus
from schemas.errors import PartUnreachable
from schemas.events import EventId

ROOM_WAIT_S = 30.0
CLOSE_TIMEOUT_S = 30.0
_BLOCK_SHARE = 4
"""A block of impressions is this part of the emitter's queue: with a click each, it fits into the half that was awaited."""


@dataclass(frozen=True, slots=True)
class Emission:
    """What the log was emitted as, and what the emitter said of it when it was closed."""

    answers: Sequence[EventId]
    clicks: Sequence[EventId]
    status: EmitterStatus


def emit_log(emitter: Emitter, impressions: Iterable[Impression], new_event_id: Callable[[], EventId]) -> Emission:
    """Emit every impression and every click in the order given, then close the emitter.

    Raises PartUnreachable where the queue does not empty for ROOM_WAIT_S.
    """
    answers: list[EventId] = []
    clicks: list[EventId] = []
    block_impressions = max(1, emitter.status().queue_events_max // _BLOCK_SHARE)
    left = iter(impressions)
    try:
        while block := list(islice(left, block_impressions)):
            _await_room(emitter)
            for impression in block:
                answers.append(new_event_id())
                emitter.emit(served(impression, answers[-1]))
                if impression.clicked:
                    clicks.append(new_event_id())
                    emitter.emit(click(impression, clicks[-1]))
    finally:
        status = emitter.close(CLOSE_TIMEOUT_S)
    return Emission(answers, clicks, status)


def _await_room(emitter: Emitter) -> None:
    if not emitter.wait_for_room(ROOM_WAIT_S):
        remedy = (
            f"its queue did not empty for {ROOM_WAIT_S:.0f} s; see that the broker and the registry answer (`tailrace status`)"
        )
        raise PartUnreachable("the emitter", "the demo's process", remedy)
