"""The background thread of an emitter: takes events out of the outbox, encodes them, hands them to the transport, keeps the
books.

Nothing here runs on a caller's thread. It starts by looking up the schemas' ids and takes nothing out before it has them, so a
registry that is away costs room in the outbox only.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from producers.accounts import TopicSummary
from producers.config import EmitterLimits
from producers.errors import Loss, RecordRefused, SchemaUnavailable
from producers.outbox import EVENT_TYPES, Numbered, Outbox
from producers.schema_ids import SchemaIds
from producers.transport import OutboundRecord, Transport
from schemas.codec import Codec
from schemas.events import Micros, ProducerCheckpoint
from schemas.topics import PRODUCER_CHECKPOINTS, topic_name

logger = logging.getLogger(__name__)

TOPICS = (*(topic for _, topic in EVENT_TYPES), PRODUCER_CHECKPOINTS)
"""The topics that an emitter writes to."""

BATCH_EVENTS_MAX = 64
"""Between two batches the interpreter's lock is let go: encoding a batch is what a request may have to wait for, about 2 ms."""

IDLE_WAIT_S = 0.01
FULL_WAIT_S = 0.05
LOOKUP_BACKOFF_MIN_S = 0.1
LOOKUP_BACKOFF_MAX_S = 5.0
REPORT_INTERVAL_S = 10.0
CLOSING_RESERVE_S = 0.5
"""Of the time to close, this much (a fifth at most) is kept for the closing checkpoint."""


@dataclass(slots=True)
class CourierCounters:
    """Whole numbers that only the courier writes; metrics read them."""

    checkpoints: int = 0
    checkpoints_lost: int = 0
    transport_full: int = 0
    lookup_failures: int = 0
    faults: int = 0


class Courier:
    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        schema_ids: SchemaIds,
        *,
        prefix: str,
        limits: EmitterLimits,
        now_us: Callable[[], Micros],
    ) -> None:
        self.counters = CourierCounters()
        self._outbox, self._transport = outbox, transport
        self._producer_id = outbox.producer_id
        self._schema_ids = schema_ids
        self._limits, self._now_us = limits, now_us
        self._codecs: dict[type[object], Codec[Any]] = {kind: Codec(kind) for kind, _ in EVENT_TYPES}
        self._checkpoint_codec = Codec(ProducerCheckpoint)
        self._names = {topic.name: topic_name(prefix, topic) for topic in TOPICS}
        self._accounts = {self._names[route.account.topic]: route.account for route in outbox.routes}
        self._ids: dict[str, int] = {}
        self._closing = threading.Event()
        self._deadline = self._events_deadline = float("inf")
        self._reported: Counter[tuple[str, str]] = Counter()
        self._thread = threading.Thread(target=self._run, name="tailrace-emitter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        """False after a close, and in a process forked from the emitter's."""
        return self._thread.is_alive()

    def close(self, timeout_s: float) -> None:
        """Send what is left, the closing checkpoints last; give up after `timeout_s`."""
        if not self._closing.is_set():
            self._deadline = time.monotonic() + timeout_s
            self._events_deadline = self._deadline - min(CLOSING_RESERVE_S, timeout_s / 5)
            self._closing.set()
        self._thread.join(timeout_s + CLOSING_RESERVE_S)

    def summaries(self) -> tuple[TopicSummary, ...]:
        return tuple(route.account.summary(route.lane.next_seq) for route in self._outbox.routes)

    def _run(self) -> None:
        self._find_schema_ids()
        self._guarded(self._schema_ids.close)
        next_report = time.monotonic()
        next_checkpoint = next_report + self._limits.checkpoint_interval_s
        while not self._closing.is_set():
            self._guarded(self._send_batch)
            if (now := time.monotonic()) >= next_checkpoint:
                self._guarded(self._send_checkpoints)
                next_checkpoint = now + self._limits.checkpoint_interval_s
            if now >= next_report:
                self._report_losses()
                next_report = now + REPORT_INTERVAL_S
        self._guarded(self._finish)
        self._report_losses()
        self._guarded(self._transport.close)

    def _guarded(self, step: Callable[[], None]) -> None:
        """The top of the loop: no step's fault may end the thread."""
        try:
            step()
        except Exception:
            self.counters.faults += 1
            logger.exception("a step of the emitter's thread failed; it goes on")
            self._closing.wait(FULL_WAIT_S)

    def _find_schema_ids(self) -> None:
        """Keep asking, also while closing: a process that emits and ends at once has events to send."""
        backoff_s = LOOKUP_BACKOFF_MIN_S
        while not self._ids and time.monotonic() < self._events_deadline:
            self._guarded(self._look_up)
            if not self._ids and self._closing.wait(backoff_s):
                time.sleep(LOOKUP_BACKOFF_MIN_S)
            backoff_s = min(backoff_s * 2, LOOKUP_BACKOFF_MAX_S)

    def _look_up(self) -> None:
        try:
            self._ids = {topic.name: self._schema_ids.lookup(topic) for topic in TOPICS}
        except SchemaUnavailable as error:
            self.counters.lookup_failures += 1
            self._report_lookup(error)

    def _report_lookup(self, error: SchemaUnavailable) -> None:
        """At the first failure and at every doubling of their number."""
        failures = self.counters.lookup_failures
        level = logging.WARNING if failures & (failures - 1) == 0 else logging.DEBUG
        logger.log(level, "look-up %d failed: %s; %d events wait", failures, error, len(self._outbox))
        self._report_losses()

    def _send_batch(self) -> None:
        batch = self._outbox.take(BATCH_EVENTS_MAX)
        for numbered in batch:
            self._send(numbered)
        self._settle(0.0)
        if len(batch) < BATCH_EVENTS_MAX:
            self._closing.wait(IDLE_WAIT_S)

    def _send(self, numbered: Numbered) -> None:
        """Hand one event to the transport, or count why not. Raises nothing: the rest of the batch must follow."""
        account = numbered.route.account
        try:
            record = self._record(numbered)
        except Exception as error:  # noqa: BLE001 - an event is whatever the caller has built
            account.lose(Loss.ENCODE, detail=str(error))
            return
        try:
            taken = self._offer_until_deadline(record)
        except RecordRefused as error:
            account.lose(f"refused_{error.reason}", detail=str(error))
        except Exception as error:  # noqa: BLE001 - the transport's bug costs its event, and is told with the losses
            account.lose(Loss.INTERNAL, detail=repr(error))
        else:
            self._book(numbered, taken=taken)

    def _record(self, numbered: Numbered) -> OutboundRecord:
        event, topic = numbered.event, numbered.route.account.topic
        value = self._codecs[type(event)].encode(event, self._ids[topic], numbered.stamp(self._producer_id))
        return OutboundRecord(self._names[topic], event.unit_id.encode(), value)

    def _book(self, numbered: Numbered, *, taken: bool) -> None:
        if taken:
            numbered.route.account.expose(numbered.event)
        else:
            numbered.route.account.lose(Loss.UNSENT_AT_CLOSE)

    def _offer_until_deadline(self, record: OutboundRecord) -> bool:
        while not self._transport.offer(record):
            self.counters.transport_full += 1
            if time.monotonic() >= self._events_deadline:
                return False
            self._settle(FULL_WAIT_S)
        return True

    def _settle(self, timeout_s: float) -> None:
        for outcome in self._transport.poll(timeout_s):
            account = self._accounts.get(outcome.topic)
            if account is None:
                self.counters.checkpoints_lost += outcome.failure is not None
            elif outcome.failure is None:
                account.deliver()
            else:
                account.lose(f"delivery_{outcome.failure}")

    def _settle_until(self, deadline: float) -> None:
        while self._transport.in_flight() and (left := deadline - time.monotonic()) > 0:
            self._settle(min(left, FULL_WAIT_S))

    def _send_checkpoints(self, *, closed: bool = False) -> None:
        for route in self._outbox.routes:
            summary = route.account.summary(route.lane.next_seq)
            if not summary.accepted and not summary.dropped:
                continue
            checkpoint = route.account.checkpoint(self._producer_id, self._now_us(), summary.accepted, closed=closed)
            value = self._checkpoint_codec.encode(checkpoint, self._ids[PRODUCER_CHECKPOINTS.name])
            record = OutboundRecord(self._names[PRODUCER_CHECKPOINTS.name], self._producer_id.encode(), value)
            taken = self._transport.offer(record)
            self.counters.checkpoints += taken
            self.counters.checkpoints_lost += not taken

    def _finish(self) -> None:
        while self._ids and len(self._outbox) and time.monotonic() < self._events_deadline:
            for numbered in self._outbox.take(BATCH_EVENTS_MAX):
                self._send(numbered)
            self._settle(0.0)
        for numbered in self._outbox.take(self._outbox.events_max):
            numbered.route.account.lose(Loss.UNSENT_AT_CLOSE)
        self._settle_until(self._events_deadline)
        if self._transport.in_flight():
            self._transport.abandon()  # only then: the client's purge can still hit what is offered right after it
            self._settle_until(self._deadline)
        if self._ids:
            self._send_checkpoints(closed=True)
            self._settle_until(self._deadline)

    def _report_losses(self) -> None:
        """Log what was lost since the last report: once an interval, however much it is."""
        accounts = [route.account for route in self._outbox.routes] + [self._outbox.strays]
        now = Counter(
            {(account.topic, reason): lost for account in accounts for reason, lost in account.summary(0).dropped.items()}
        )
        for (topic, reason), lost in (now - self._reported).items():
            details = [account.detail(reason) for account in accounts if account.topic == topic]
            logger.warning("%d events of %s were lost: %s %s", lost, topic or "no topic", reason, *details)
        self._reported = now
