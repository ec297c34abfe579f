"""The spool as the courier sees it: calls that never wait for a disk. A thread of its own does what may.

Guarantees: what was submitted comes back exactly once, as stored, as refused, or recalled, and before it is read back. A disk
that fails is left alone for a growing while (`available` is False); one that hangs is noticed after STALL_S. Both count as
downgrades. What is submitted and what is read back are bounded, the former in events and in bytes.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from producers.parcel import Parcel
from producers.seldom import level_of
from producers.spool.frames import BODY_BYTES_MAX
from producers.spool.inbox import Inbox, Submitted
from producers.spool.log import LogCounters, Lost, SpoolFullError, SpoolLog, Stretch
from producers.spool.segments import Place

logger = logging.getLogger(__name__)

T = TypeVar("T")

WRITE_EVENTS_MAX = 1_000
STRETCH_EVENTS, STRETCHES_AHEAD = 100, 40
READ_STRETCHES = 10
PROBES_AHEAD = 20
"""Single records, read ahead while hardly any can be sent: a file of which something is in memory is not dropped for its size."""

TICK_S = 0.02
STALL_S = 2.0
BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 30.0
RECORD_BYTES_MAX = BODY_BYTES_MAX // 2
FULL, UNWRITABLE = "spool_full", "spool_unwritable"


class Stored(NamedTuple):
    """On disk, at `place`. `held` ones are still the courier's to send; the others will be read back."""

    parcel: Parcel
    place: Place
    held: bool


class Refused(NamedTuple):
    """Not on disk, and not to be expected there."""

    parcel: Parcel


News = Stored | Refused | Lost


@dataclass(slots=True)
class SpoolCounters:
    """`stalls` and `buffer_full` are the courier's to write, the others the spool's thread's."""

    stalls: int = 0
    buffer_full: int = 0
    unwritable: int = 0
    full: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """`bytes_used` and `oldest_age_s` are of what this emitter writes and has adopted. `passed_over` counts how often a file or a
    directory could not be used, and was left for later.
    """

    bytes_used: int
    oldest_age_s: float
    available: bool
    passed_over: int
    counters: SpoolCounters
    log: LogCounters

    @property
    def downgrades(self) -> int:
        """How often the disk could not be used, and events stayed in memory."""
        return self.counters.stalls + self.counters.buffer_full + self.counters.unwritable + self.counters.full


class Spool:
    """Owns `log`. All public methods are the courier's, but for `forget`, a forked process's."""

    def __init__(self, log: SpoolLog, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.log = log
        self.counters = SpoolCounters()
        self._monotonic = monotonic
        self._inbox = Inbox()
        self._news: deque[News] = deque()
        self._settled: deque[Mapping[Place, int]] = deque()
        self._foreign: deque[Place] = deque()
        self._ready: deque[Stretch] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._busy_since: float | None = None
        self._stalled = self._news_for_disk = False
        self._ahead, self._stretch_events = PROBES_AHEAD, 1
        self._retry_at = 0.0
        self._backoff_s = BACKOFF_MIN_S
        self._thread = threading.Thread(target=self._run, name="tailrace-spool", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def available(self) -> bool:
        """Whether the disk takes what is submitted, as far as is known."""
        now = self._monotonic()
        stalled = self._hangs(now)
        if stalled and not self._stalled:
            self.counters.stalls += 1
        self._stalled = stalled
        return not stalled and now >= self._retry_at

    def submit(self, parcel: Parcel, *, held: bool) -> bool:
        """Have `parcel` written; False where it is not going to be. `flush` follows, when there is no more for now."""
        if not self.takes(parcel):
            return False
        if not self._inbox.put(Submitted(parcel, held)):
            self.counters.buffer_full += 1
            return False
        self._news_for_disk = True
        return True

    def takes(self, parcel: Parcel) -> bool:
        """Whether `parcel` can be written, now or as soon as there is room for it."""
        return self.available() and len(parcel.record.datum) + len(parcel.record.key) <= RECORD_BYTES_MAX

    def recall(self) -> list[Parcel]:
        """Everything that was submitted, and not begun to be written."""
        return [submitted.parcel for submitted in self._inbox.empty()]

    def settle(self, events: Mapping[Place, int]) -> None:
        """So many of what stands there are acknowledged, or lost and counted. That nobody waits for: it is booked at the next
        round, and no round is begun for it, which costs as much as the booking of many.
        """
        if events:
            self._settled.append(events)

    def leave(self, place: Place) -> None:
        """What stands at `place` is for a newer release."""
        self._foreign.append(place)
        self._news_for_disk = True

    def flush(self) -> None:
        """Have the disk's thread look, where there is something for it."""
        if self._news_for_disk:
            self._news_for_disk = False
            self._wake.set()

    def news(self) -> list[News]:
        return [self._news.popleft() for _ in range(len(self._news))]

    def expect(self, *, many: bool) -> None:
        """How much is going to be taken."""
        self._ahead, self._stretch_events = (STRETCHES_AHEAD, STRETCH_EVENTS) if many else (PROBES_AHEAD, 1)

    def take(self) -> Stretch | None:
        """The oldest records on disk that were not handed out. None where there are none, or they are still being read."""
        self._news_for_disk |= len(self._ready) < self._ahead // 2
        return _pop(self._ready)

    def close(self, timeout_s: float) -> None:
        """Bring everything to disk, and let go of it."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(max(0.0, timeout_s))

    def forget(self) -> None:
        self.log.forget()

    def status(self) -> SpoolStatus:
        """May be asked from any thread."""
        now = self._monotonic()
        available = not self._hangs(now) and now >= self._retry_at
        log = self.log
        return SpoolStatus(log.bytes_used, log.oldest_age_s(), available, log.passed_over, self.counters, log.counters)

    def _hangs(self, now: float) -> bool:
        busy_since = self._busy_since
        return busy_since is not None and now - busy_since > STALL_S

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._more_to_read():
                self._wake.wait(TICK_S)
            self._wake.clear()
            self.work()
        self.work()
        self._guarded(self.log.close)

    def work(self) -> None:
        """One round of the thread's."""
        self._busy_since = self._monotonic()
        self._guarded(self._write_all)
        self._guarded(self._settle)
        self._guarded(self._read)
        self._guarded(self.log.tend)
        self._tell_losses()
        self._busy_since = None

    def _write_all(self) -> None:
        while batch := self._inbox.take(WRITE_EVENTS_MAX):
            self._write(batch)

    def _write(self, batch: list[Submitted]) -> None:
        held = batch[0].held
        self._busy_since = self._monotonic()
        try:
            places = self.log.append([submitted.parcel.record for submitted in batch], held=held)
        except OSError as error:
            self._refuse(batch, error)
            return
        self._backoff_s = BACKOFF_MIN_S
        self._news.extend(Stored(submitted.parcel, place, held) for submitted, place in zip(batch, places, strict=True))

    def _refuse(self, batch: list[Submitted], error: OSError) -> None:
        """Also what was submitted after it: it would meet the same."""
        self._retry_at = self._monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)
        if isinstance(error, SpoolFullError):
            self.counters.full += 1
        else:
            self.counters.unwritable += 1
        logger.warning("the spool cannot be written, events stay in memory: %s", error)
        self._news.extend(Refused(submitted.parcel) for submitted in batch)
        self._news.extend(Refused(parcel) for parcel in self.recall())

    def _settle(self) -> None:
        while (foreign := _pop(self._foreign)) is not None:
            self.log.leave(foreign)
        while (settled := _pop(self._settled)) is not None:
            self.log.settle(settled)

    def _read(self) -> None:
        if (room := self._ahead - len(self._ready)) > 0:
            self._ready.extend(self.log.read(min(room, READ_STRETCHES), self._stretch_events))

    def _more_to_read(self) -> bool:
        return len(self._ready) < self._ahead and self.log.unread

    def _tell_losses(self) -> None:
        self._news.extend(self.log.losses)
        self.log.losses.clear()

    def _guarded(self, step: Callable[[], None]) -> None:
        """The top of the loop: no fault may end the thread, or the courier would wait for it for ever."""
        try:
            step()
        except Exception as error:
            self.counters.faults += 1
            trace = None if isinstance(error, OSError) else error
            faults = self.counters.faults
            logger.log(level_of(faults), "step %d on the spool failed, and is done again: %s", faults, error, exc_info=trace)


def _pop(waiting: deque[T]) -> T | None:
    """Two threads may pop at once."""
    try:
        return waiting.popleft()
    except IndexError:
        return None
