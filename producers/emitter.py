"""Getting events out without ever costing a request anything.

`emit` never blocks and never raises into its caller: it numbers the event, queues it and is done, in a microsecond or two. It may
be called from any thread, and from a coroutine as it is: there is nothing to await. What goes wrong, then or later, is counted by
reason, logged once in a while, and told by the checkpoints.

A forked process gets an incarnation of its own: another producer_id, an empty queue, and its own connections and threads, made at
its first event. What its parent had in hand is the parent's, and is not touched.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import NoReturn
from weakref import WeakSet

from producers.accounts import TopicSummary
from producers.config import EmitterLimits
from producers.courier import Courier, CourierCounters, Means
from producers.errors import Loss
from producers.identity import Identity
from producers.known_ids import KnownIds
from producers.outbox import EVENT_TYPES, Outbox
from producers.schema_ids import SchemaIds
from producers.spool.spool import SpoolStatus
from producers.spooling import DispatchCounters, Spooling
from producers.transport import Transport
from schemas.events import Event, EventId, Micros, ProducerId
from schemas.topics import DEFAULT_PREFIX

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmitterStatus:
    """`strays` counts losses that belong to no topic; `alive` is False after a close. `spool` is None without one."""

    producer_id: ProducerId
    topics: tuple[TopicSummary, ...]
    strays: dict[str, int]
    queue_events: int
    queue_events_max: int
    counters: CourierCounters
    dispatched: DispatchCounters
    lookup_failures: int
    spool: SpoolStatus | None
    alive: bool

    @property
    def undelivered(self) -> int:
        """Accepted, and not acknowledged so far."""
        return sum(topic.undelivered for topic in self.topics)

    @property
    def spooled(self) -> int:
        return sum(topic.spooled for topic in self.topics)


@dataclass(frozen=True, slots=True)
class Sources:
    """How an incarnation comes by what it sends with. Each is called once, on a thread of the incarnation's own."""

    transport: Callable[[], Transport]
    schema_ids: Callable[[], SchemaIds]


class Incarnation:
    """One producer_id, from its first event to its last. Before `start` it owns neither thread nor connection."""

    def __init__(self, outbox: Outbox, courier: Courier) -> None:
        self.outbox, self.courier = outbox, courier
        self.started = False

    def start(self) -> None:
        self.started = True
        self.courier.start()

    def alive(self) -> bool:
        return not self.outbox.closed and (self.courier.alive() or not self.started)

    def close(self, timeout_s: float) -> None:
        self.outbox.close(Loss.CLOSED)
        if self.started:
            self.courier.close(timeout_s)

    def leave_to_parent(self) -> None:
        """In a forked process: close our copies of the spool's files. All else stays as it is, for as long as the process lives:
        its threads are gone, so nothing of it could be brought to an end.
        """
        _LEFT.append(self)
        if self.courier.spooling is not None:
            self.courier.spooling.spool.forget()


class Emitter:
    """Owns `transport` and `schema_ids`, and closes them. Close the emitter, or leave it to the end of the process.

    `renew` says how a forked process comes by its own; without it, what is emitted there is lost, and counted. `spool` opens an
    incarnation's place on disk.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        transport: Transport,
        schema_ids: SchemaIds,
        *,
        now_us: Callable[[], Micros],
        new_id: Callable[[], str],
        prefix: str = DEFAULT_PREFIX,
        limits: EmitterLimits = EmitterLimits(),  # noqa: B008 - frozen
        spool: Callable[[ProducerId], Spooling] | None = None,
        renew: Sources | None = None,
    ) -> None:
        self._incarnate = partial(_incarnate, spool=spool, now_us=now_us, new_id=new_id, prefix=prefix, limits=limits)
        self._renew = renew
        self._close_at_exit_s = limits.close_at_exit_s
        self._lock = threading.Lock()
        """Guards starting and closing."""
        self._current = self._incarnate(Sources(lambda: transport, lambda: schema_ids))
        self._current.start()
        self._put = self._current.outbox.put
        _look_after_forks()
        _EMITTERS.add(self)
        atexit.register(self._close_at_exit)

    @property
    def producer_id(self) -> ProducerId:
        return self._current.outbox.producer_id

    def emit(self, event: Event) -> bool:
        """Queue `event` for its topic. False where it is known to be lost; the loss is counted."""
        try:
            return self._put(event)
        except Exception as error:  # noqa: BLE001 - a request must not fail for its event; the courier logs the count
            self._current.outbox.strays.lose(Loss.INTERNAL, detail=repr(error))
            return False

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until the queue is at most half full: for those who emit in bulk and rather wait than lose, never for requests."""
        return self._current.outbox.wait_for_room(timeout_s)

    def status(self) -> EmitterStatus:
        outbox, courier = self._current.outbox, self._current.courier
        return EmitterStatus(
            producer_id=self.producer_id,
            topics=courier.summaries(),
            strays=outbox.strays.dropped(),
            queue_events=len(outbox),
            queue_events_max=outbox.events_max,
            counters=courier.counters,
            dispatched=courier.dispatched,
            lookup_failures=courier.ids.failures,
            spool=None if courier.spooling is None else courier.spooling.spool.status(),
            alive=self._current.alive(),
        )

    def close(self, timeout_s: float) -> EmitterStatus:
        """Send what is left and the closing checkpoints, within `timeout_s`; the status says what was not delivered.

        With a spool, what was not delivered is on disk then, for the next emitter on the host. Closing again gives the same
        answer and does nothing.
        """
        with self._lock:
            self._current.close(timeout_s)
            atexit.unregister(self._close_at_exit)
        return self.status()

    def after_fork(self) -> None:
        """Begin anew, at the first event."""
        closed = self._current.outbox.closed
        self._lock = threading.Lock()
        self._current.leave_to_parent()
        self._current = self._incarnate(self._renew or Sources(_nothing, _nothing))
        self._put = self._put_first
        if closed:
            self._current.outbox.close(Loss.CLOSED)
        elif self._renew is None:
            self._current.outbox.close(Loss.FORKED)

    def _put_first(self, event: Event) -> bool:
        with self._lock:
            if not (self._current.started or self._current.outbox.closed):
                self._current.start()
            self._put = self._current.outbox.put
        return self._put(event)

    def _close_at_exit(self) -> None:
        status = self.close(self._close_at_exit_s)
        if status.undelivered:
            left = (status.undelivered, status.spooled)
            logger.warning("%d events were not delivered when the process ended; %d of them are on disk", *left)


_EMITTERS: WeakSet[Emitter] = WeakSet()
_LEFT: list[Incarnation] = []
"""What forked processes have of their parents' incarnations."""


def _incarnate(
    sources: Sources,
    *,
    spool: Callable[[ProducerId], Spooling] | None,
    now_us: Callable[[], Micros],
    new_id: Callable[[], str],
    prefix: str,
    limits: EmitterLimits,
) -> Incarnation:
    identity = Identity(ProducerId(new_id()), tuple(topic for _, topic in EVENT_TYPES))
    outbox = Outbox(identity, limits.queue_events_max, lambda: EventId(new_id()))
    spooling = None if spool is None else spool(identity.producer_id)
    means = Means(sources.transport, KnownIds(sources.schema_ids), spooling)
    return Incarnation(outbox, Courier(outbox, means, prefix=prefix, limits=limits, now_us=now_us))


@cache
def _look_after_forks() -> None:
    """Asked for with the first emitter: what makes its ids has by then asked to be seeded anew before us."""
    os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for emitter in list(_EMITTERS):
        emitter.after_fork()


def _nothing() -> NoReturn:
    raise AssertionError("what cannot be renewed is never started")
