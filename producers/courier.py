"""The background thread of an emitter: takes events out of the outbox, has them encoded and dispatched, tells how far it is.

Nothing here runs on a caller's thread. Without a spool it takes nothing out of the outbox before the schemas' ids are known, so a
registry that is away costs room in the outbox only; with one it goes to disk.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from producers.accounts import TopicSummary, checkpoint_of
from producers.config import EmitterLimits
from producers.dispatch import Dispatch
from producers.encoding import Encoder
from producers.errors import Loss
from producers.known_ids import KnownIds
from producers.outbox import Numbered, Outbox, Route
from producers.parcel import Parcel
from producers.spooling import DispatchCounters, Spooling
from producers.transport import Transport
from schemas.events import Micros

logger = logging.getLogger(__name__)

BATCH_EVENTS_MAX = 64
CALM_EVENTS_MAX = 256
CALM_BATCH_EVENTS = 8
LULL_S, BREATH_S = 0.002, 0.0001
"""While few events wait they are encoded by eights, and after each batch the thread sleeps: that hands the interpreter's lock to
a request that waits for it, which letting it go for an instant does not. It waits for one such batch then, about a tenth of a
millisecond, instead of for the interpreter's switch interval (5 ms). In a lull it sleeps longer, since to wake costs more than
to encode an event. While many wait, throughput goes first."""

QUIET_S = 0.1
"""Where nobody has emitted for so long no request is there to hand the lock to, and what is on disk goes without pauses: each one
ends only when the spool's thread gives the lock back, and cost a fifth of the rate."""

IDLE_WAIT_S = 0.01
FULL_WAIT_S = 0.05
REPORT_INTERVAL_S = 10.0
CLOSING_RESERVE_S = 1.0
"""Of the time to close, this much (a fifth at most) is kept for the closing checkpoint; with a spool half of the time, since all
that is in flight may have to go to disk before it."""

DISK_GRACE_S = 0.5
"""A disk that works has ended within it; one that hangs is left."""


@dataclass(slots=True)
class CourierCounters:
    """Whole numbers that only the courier writes; metrics read them."""

    checkpoints: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Means:
    """What a courier sends with, and owns. `connect` is called once, on its thread."""

    connect: Callable[[], Transport]
    ids: KnownIds
    spooling: Spooling | None


class Courier:
    def __init__(self, outbox: Outbox, means: Means, *, prefix: str, limits: EmitterLimits, now_us: Callable[[], Micros]) -> None:
        self.counters = CourierCounters()
        self.ids, self.spooling = means.ids, means.spooling
        self._outbox, self._connect = outbox, means.connect
        self._limits, self._now_us = limits, now_us
        self._encoder = Encoder(outbox.producer_id, prefix, means.ids)
        self.dispatched = DispatchCounters()
        self._closing = threading.Event()
        self._taken_at = float("-inf")
        """When events were last taken out of the outbox."""
        self._deadline = self._events_deadline = float("inf")
        self._reported: Counter[tuple[str, str]] = Counter()
        self._thread = threading.Thread(target=self._run, name="tailrace-emitter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self, timeout_s: float) -> None:
        """Send what is left, or put it on disk; the closing checkpoints last. Give up after `timeout_s`."""
        if not self._closing.is_set():
            self._deadline = time.monotonic() + timeout_s
            reserve_s = min(CLOSING_RESERVE_S, timeout_s / 5) if self.spooling is None else timeout_s / 2
            self._events_deadline = self._deadline - reserve_s
            self._closing.set()
        self._thread.join(timeout_s + CLOSING_RESERVE_S)

    def summaries(self) -> tuple[TopicSummary, ...]:
        return tuple(self._outbox.summary(route) for route in self._outbox.routes)

    def _run(self) -> None:
        self.ids.start()
        if self.spooling is not None:
            self.spooling.spool.start()
        transport = self._connect()
        accounts = {route.account.topic: route.account for route in self._outbox.routes}
        dispatch = Dispatch(self._encoder, transport, accounts, self.spooling, self.dispatched)
        self._work(dispatch)
        self._guarded(lambda: self._finish(dispatch))
        self._report_losses()
        self._guarded(transport.close)
        self.ids.close()
        if self.spooling is not None:
            self.spooling.spool.close(max(DISK_GRACE_S, self._deadline - time.monotonic()))

    def _work(self, dispatch: Dispatch) -> None:
        next_report = time.monotonic()
        next_checkpoint = next_report + self._limits.checkpoint_interval_s
        while not self._closing.is_set():
            self._guarded(lambda: self._turn(dispatch))
            if (now := time.monotonic()) >= next_checkpoint:
                self._guarded(lambda: self._send_checkpoints(dispatch))
                next_checkpoint = now + self._limits.checkpoint_interval_s
            if now >= next_report:
                self._report_losses()
                next_report = now + REPORT_INTERVAL_S

    def _guarded(self, step: Callable[[], None]) -> None:
        """The top of the loop: no step's fault may end the thread."""
        try:
            step()
        except Exception:
            self.counters.faults += 1
            logger.exception("a step of the emitter's thread failed; it goes on")
            self._closing.wait(FULL_WAIT_S)

    def _turn(self, dispatch: Dispatch) -> None:
        """What lives goes before what waits on disk."""
        moved = self._move(dispatch)
        drained = dispatch.drain() if len(self._outbox) < BATCH_EVENTS_MAX else 0
        if not moved + drained:
            dispatch.settle(FULL_WAIT_S if dispatch.waiting else IDLE_WAIT_S)
        elif self._calm() and not (drained and self._quiet()):
            lull = not drained and len(self._outbox) < CALM_BATCH_EVENTS
            time.sleep(LULL_S if lull else BREATH_S)

    def _calm(self) -> bool:
        return len(self._outbox) < CALM_EVENTS_MAX

    def _quiet(self) -> bool:
        return time.monotonic() - self._taken_at > QUIET_S

    def _move(self, dispatch: Dispatch) -> int:
        """What is stored is heard of before it can be read back and acknowledged."""
        return dispatch.hear() + dispatch.settle(0.0) + self._take(dispatch) + dispatch.place_waiting()

    def _take(self, dispatch: Dispatch) -> int:
        if dispatch.waiting >= BATCH_EVENTS_MAX or not (self._encoder.ready() or dispatch.writes_now()):
            return 0
        batch = self._outbox.take(CALM_BATCH_EVENTS if self._calm() else BATCH_EVENTS_MAX)
        if batch:
            self._taken_at = time.monotonic()
        for numbered in batch:
            self._encode(numbered, dispatch)
        return len(batch)

    def _encode(self, numbered: Numbered, dispatch: Dispatch) -> None:
        """Raises nothing: the rest of the batch must follow."""
        account = numbered.route.account
        try:
            parcel = self._encoder.parcel(numbered)
            account.expose(numbered.event)
        except Exception as error:  # noqa: BLE001 - an event is whatever the caller has built
            account.lose(Loss.ENCODE, detail=str(error))
        else:
            dispatch.add(parcel)

    def _send_checkpoints(self, dispatch: Dispatch, *, closed: bool = False) -> None:
        for route in self._outbox.routes:
            summary = self._outbox.summary(route)
            if not summary.emitted:
                continue
            if dispatch.waiting >= BATCH_EVENTS_MAX and not closed:
                self.dispatched.checkpoints_lost += 1
                continue
            dispatch.add(self._checkpoint(route, summary, closed=closed))
            self.counters.checkpoints += 1

    def _checkpoint(self, route: Route, summary: TopicSummary, *, closed: bool) -> Parcel:
        counts = route.account.counts()
        return self._encoder.checkpoint(checkpoint_of(summary, counts, self._outbox.producer_id, self._now_us(), closed=closed))

    def _finish(self, dispatch: Dispatch) -> None:
        """Send, else put on disk, else lose; then the checkpoints say so, sent or on disk."""
        self._move_until(self._events_deadline, dispatch, lambda: len(self._outbox) + dispatch.in_hand + dispatch.postponed)
        if not dispatch.diverted:
            self._move_until(self._events_deadline, dispatch, dispatch.in_flight)
        if not dispatch.disk_works():
            self._give_up(dispatch)
        dispatch.abandon(left=len(self._outbox))
        self._move_until(self._deadline_less(0.5), dispatch, lambda: len(self._outbox) + dispatch.in_flight() + dispatch.in_hand)
        self._give_up(dispatch)
        self._send_checkpoints(dispatch, closed=True)
        self._move_until(self._deadline_less(0.25), dispatch, lambda: dispatch.in_flight() + dispatch.in_hand)
        dispatch.abandon()
        self._move_until(self._deadline, dispatch, lambda: dispatch.in_flight() + dispatch.in_hand)
        dispatch.give_up(Loss.UNSENT_AT_CLOSE)

    def _deadline_less(self, share: float) -> float:
        """So much of the reserve is still to come then."""
        return self._deadline - share * (self._deadline - self._events_deadline)

    def _give_up(self, dispatch: Dispatch) -> None:
        for numbered in self._outbox.take(self._outbox.events_max):
            numbered.route.account.lose(Loss.UNSENT_AT_CLOSE)
        dispatch.give_up(Loss.UNSENT_AT_CLOSE)

    def _move_until(self, deadline: float, dispatch: Dispatch, left: Callable[[], int]) -> None:
        """Until nothing is left, or it is too late."""
        while left() and (left_s := deadline - time.monotonic()) > 0:
            if not self._move(dispatch) + (dispatch.drain() if dispatch.postponed else 0):
                dispatch.settle(min(left_s, IDLE_WAIT_S))

    def _report_losses(self) -> None:
        """Log what was lost since the last report: once an interval, however much it is."""
        accounts = {route.account.topic: route.account for route in self._outbox.routes}
        now = Counter({("", reason): lost for reason, lost in self._outbox.strays.dropped().items()})
        now.update({(topic.topic, reason): lost for topic in self.summaries() for reason, lost in topic.dropped.items()})
        for (topic, reason), lost in (now - self._reported).items():
            detail = accounts.get(topic, self._outbox.strays).detail(reason)
            logger.warning("%d events of %s were lost: %s %s", lost, topic or "no topic", reason, detail)
        self._reported = now
