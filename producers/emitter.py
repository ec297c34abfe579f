"""Getting events out without ever costing a request anything.

`emit` never blocks and never raises into its caller: it numbers the event, queues it and is done, in a microsecond or two. What
goes wrong, then or later, is counted by reason, logged once in a while, and told by the checkpoints. An emitter belongs to the
process that made it: its thread does not survive a fork, so make one in each process, after forking.
"""

import atexit
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from producers.accounts import TopicSummary
from producers.config import EmitterLimits
from producers.courier import Courier, CourierCounters
from producers.errors import Loss
from producers.identity import Identity
from producers.outbox import EVENT_TYPES, Outbox
from producers.schema_ids import SchemaIds
from producers.transport import Transport
from schemas.events import Event, EventId, Micros, ProducerId
from schemas.topics import DEFAULT_PREFIX

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmitterStatus:
    """`strays` counts losses that belong to no topic; `alive` is False after a close, and in a forked process."""

    producer_id: ProducerId
    topics: tuple[TopicSummary, ...]
    strays: dict[str, int]
    queue_events: int
    queue_events_max: int
    counters: CourierCounters
    alive: bool

    @property
    def undelivered(self) -> int:
        return sum(topic.undelivered for topic in self.topics)


class Emitter:
    """Owns `transport` and `schema_ids`, and closes them. Close the emitter, or leave it to the end of the process."""

    def __init__(
        self,
        transport: Transport,
        schema_ids: SchemaIds,
        *,
        now_us: Callable[[], Micros],
        new_id: Callable[[], str],
        prefix: str = DEFAULT_PREFIX,
        limits: EmitterLimits = EmitterLimits(),  # noqa: B008 - frozen
    ) -> None:
        identity = Identity(ProducerId(new_id()), tuple(topic for _, topic in EVENT_TYPES))
        self.producer_id = identity.producer_id
        self._outbox = Outbox(identity, limits.queue_events_max, lambda: EventId(new_id()))
        self._courier = Courier(self._outbox, transport, schema_ids, prefix=prefix, limits=limits, now_us=now_us)
        self._close_at_exit_s = limits.close_at_exit_s
        self._close_lock = threading.Lock()
        self._courier.start()
        atexit.register(self._close_at_exit)

    def emit(self, event: Event) -> bool:
        """Queue `event` for its topic. False where it is known to be lost; the loss is counted."""
        try:
            return self._outbox.put(event)
        except Exception as error:  # noqa: BLE001 - a request must not fail for its event; the courier logs the count
            self._outbox.strays.lose(Loss.INTERNAL, detail=repr(error))
            return False

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until the queue is at most half full: for those who emit in bulk and rather wait than lose, never for requests."""
        return self._outbox.wait_for_room(timeout_s)

    def status(self) -> EmitterStatus:
        return EmitterStatus(
            producer_id=self.producer_id,
            topics=self._courier.summaries(),
            strays=dict(self._outbox.strays.summary(0).dropped),
            queue_events=len(self._outbox),
            queue_events_max=self._outbox.events_max,
            counters=self._courier.counters,
            alive=self._courier.alive(),
        )

    def close(self, timeout_s: float) -> EmitterStatus:
        """Send what is left and the closing checkpoints, within `timeout_s`; the status says what was not delivered.

        Closing again gives the same answer and does nothing.
        """
        with self._close_lock:
            self._outbox.close()
            self._courier.close(timeout_s)
            atexit.unregister(self._close_at_exit)
        return self.status()

    def _close_at_exit(self) -> None:
        status = self.close(self._close_at_exit_s)
        if status.undelivered:
            logger.warning("%d events were not delivered when the process ended", status.undelivered)
