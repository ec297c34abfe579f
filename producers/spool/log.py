"""Everything one emitter has on disk: its own segments, and those that it has adopted.

Guarantees: records are read in the order in which their segments were begun, each once, and those of a topic in the order in
which they were written; a file goes when all in it is settled, or when the host's cap on size or age is passed: then the oldest
first, and what is lost by it is counted. A segment that the disk does not give now is tried again later, and does not hold up
those behind it: their records are read before its. Synchronous, one thread's.
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from producers.config import SpoolLimits
from producers.errors import Loss
from producers.spool.directory import Claim, SpoolRoot
from producers.spool.file_system import FileSystem
from producers.spool.frames import Run, SpoolRecord
from producers.spool.segments import CURSOR_SUFFIX, SUFFIX, Place, Segment
from schemas.events import Micros, ProducerId

SEGMENT_BYTES_MAX = 8 << 20
SEGMENTS_MIN = 8
"""A cap is worth so many segments at least: dropping one drops an eighth."""
SEGMENT_AGE_S_MAX = 60
ADOPT_INTERVAL_S = 5
LEAVE_S = 600
"""What this release cannot read is looked at again after so long: by then a newer one may have taken it, or its time be over."""
READ_AGAIN_S = 10
"""What the disk does not give is asked for again after so long."""
MEASURE_INTERVAL_S = 1
COUNTED_RECORDS = 1_000
CURSOR_INTERVAL_US = 100_000
"""A cursor that is behind costs sending again, after a crash only."""

US_PER_S = 1_000_000


class SpoolFullError(OSError):
    """The host's cap is reached, and nothing of ours is left to drop."""


class Lost(NamedTuple):
    """Events of this emitter that are gone from the disk unsent."""

    topic: str
    reason: str
    events: int


class Stretch(NamedTuple):
    """Records read back, in order, and the place that all of them are settled at."""

    place: Place
    records: list[SpoolRecord]


_topic = attrgetter("topic")


@dataclass(slots=True)
class LogCounters:
    """Only the spool's thread writes them; metrics read them. `torn` and `corrupt` count damaged pieces of files.

    `left` counts directories with records of a contract that this release does not know. In `adopted_lost` a file that cannot be
    read to its end when it is dropped is one more, as corrupt: how many records that was nobody can say.
    """

    written: int = 0
    adopted: int = 0
    torn: int = 0
    corrupt: int = 0
    left: int = 0
    adopted_lost: Counter[str] = field(default_factory=Counter)


class SpoolLog:
    """Every method but `forget` and `oldest_age_s` may raise OSError."""

    def __init__(
        self,
        root: SpoolRoot,
        producer_id: ProducerId,
        disk: FileSystem,
        limits: SpoolLimits,
        *,
        now_us: Callable[[], Micros],
        new_id: Callable[[], str],
    ) -> None:
        self.counters = LogCounters()
        self.losses: list[Lost] = []
        """Since somebody has last looked, and cleared them."""
        self._root, self._producer_id, self._disk, self._limits = root, producer_id, disk, limits
        self._now_us, self._new_id = now_us, new_id
        self._own: Claim | None = None
        self._adopted: list[Claim] = []
        self._left: dict[Path, Micros] = {}
        """When it was left alone."""
        self._segments: list[Segment] = []
        self._active: dict[bool, Segment] = {}
        """Written to now: one for what is held and one for what is not, so that topics by turns need no file for each turn."""
        self._others_bytes = 0
        self._synced = self._saved = self._measured = self._looked = Micros(0)

    @property
    def bytes_used(self) -> int:
        """Of this emitter's segments and of those that it has adopted."""
        return sum(segment.size for segment in list(self._segments))

    @property
    def passed_over(self) -> int:
        """How often a file or a directory could not be used, and was left for later."""
        return self._root.passed_over

    @property
    def unread(self) -> bool:
        """Whether `read` has something to look at now."""
        return bool(self._readable())

    def oldest_age_s(self) -> float:
        oldest = min((segment.created_us for segment in list(self._segments)), default=None)
        return 0.0 if oldest is None else max(0.0, (self._now_us() - oldest) / US_PER_S)

    def append(self, records: Sequence[SpoolRecord], *, held: bool) -> list[Place]:
        """All of them, in order, or none. `held` ones are not read back while this emitter lives."""
        topics = {record.topic for record in records}
        active = self._writable(topics, held=held)
        try:
            places = active.append(records, self._now_us())
        except OSError:
            self._seal(active)
            raise
        if (other := self._active.get(not held)) is not None:
            other.passed_by |= topics
        self.counters.written += len(records)
        return places

    def read(self, stretches_max: int, events_max: int) -> list[Stretch]:
        """The oldest records that were not handed out, by stretches of up to `events_max`."""
        found: list[Stretch] = []
        for segment in self._readable():
            while len(found) < stretches_max and (run := self._run(segment, events_max)) is not None:
                self._count(segment, run)
                if run.records:
                    found.append(Stretch((segment, run.start), run.records))
            if len(found) >= stretches_max:
                break
        return found

    def settle(self, events: Mapping[Place, int]) -> None:
        """So many of each stretch are acknowledged, or lost for a reason that is counted."""
        for (segment, start), settled in events.items():
            segment.settle(start, settled)

    def leave(self, place: Place) -> None:
        """Let go of an adopted directory in which a record stands that only a newer release can send."""
        path = place[0].path.parent
        for claim in [claim for claim in self._adopted if claim.path == path]:
            self._save_cursors()
            self._segments = [segment for segment in self._segments if segment.path.parent != path]
            self._adopted.remove(claim)
            self._release(claim)
            self._left[path] = self._now_us()
            self.counters.left += 1

    def tend(self) -> None:
        """What has to be done now and then."""
        now = self._now_us()
        self._sync(now)
        self._remove_finished()
        if now - self._saved >= CURSOR_INTERVAL_US:
            self._saved = now
            self._save_cursors()
        if now - self._measured >= MEASURE_INTERVAL_S * US_PER_S:
            self._measured = now
            self._expire(now)
            self._measure()
        if now - self._looked >= ADOPT_INTERVAL_S * US_PER_S:
            self._looked = now
            self._adopt()

    def close(self) -> None:
        """Bring everything to disk, and leave what is unsettled to whoever adopts it."""
        try:
            for segment in list(self._active.values()):
                with self._root.passing_over(segment.path):
                    self._seal(segment)
            self._save_cursors()
            self._remove_finished()
        finally:
            for claim in self._claims():
                self._release(claim)
            self._adopted, self._own = [], None

    def forget(self) -> None:
        """In a forked process: close what is open, and touch nothing: it is the parent's."""
        for segment in self._segments:
            segment.forget()
        self._root.forget()

    def _writable(self, topics: set[str], *, held: bool) -> Segment:
        now, active = self._now_us(), self._active.get(held)
        if active is not None and (
            active.size >= self._segment_bytes_max() or _is_old(active, now) or not topics.isdisjoint(active.passed_by)
        ):
            self._seal(active)
        self._make_room()
        if held not in self._active:
            self._own = self._owned()
            self._active[held] = Segment.create(self._own.path, self._new_id(), now, self._disk, held=held)
            insort(self._segments, self._active[held], key=_order)
        return self._active[held]

    def _owned(self) -> Claim:
        """This emitter's directory; another, where somebody has tidied it up."""
        if self._own is not None and not self._own.path.exists():
            self._root.release(self._own)
            self._own = None
        return self._own or self._root.claim_new(self._producer_id)

    def _seal(self, active: Segment) -> None:
        del self._active[active.held]
        active.seal()

    def _segment_bytes_max(self) -> int:
        return min(SEGMENT_BYTES_MAX, self._limits.bytes_max // SEGMENTS_MIN)

    def _make_room(self) -> None:
        while self.bytes_used + self._others_bytes >= self._limits.bytes_max:
            oldest = next((segment for segment in self._segments if _may_be_dropped(segment)), None)
            if oldest is None:
                raise SpoolFullError(f"{self._limits.bytes_max} bytes of the host's spool are used")
            self._drop(oldest, Loss.SPOOL_FULL)

    def _drop(self, segment: Segment, reason: str) -> None:
        if segment is self._active.get(segment.held):
            self._seal(segment)
        if segment.own:
            self._tell_unread(segment, reason)
        else:
            self._count_lost(segment, reason)
        self._remove(segment)

    def _count_lost(self, adopted: Segment, reason: str) -> None:
        while (run := self._run(adopted, COUNTED_RECORDS)) is not None:
            self.counters.adopted_lost[reason] += len(run.records)
        if not adopted.exhausted:
            self.counters.adopted_lost[Loss.SPOOL_CORRUPT] += 1

    def _tell_unread(self, segment: Segment, reason: str) -> None:
        self.losses.extend(Lost(topic, reason, events) for topic, events in segment.unread.items() if events)
        segment.unread.clear()

    def _readable(self) -> list[Segment]:
        """Those in which something is left to hand out, but for what was set aside."""
        now = self._now_us()
        return [each for each in self._segments if not (each.held or each.exhausted) and now >= each.aside_until_us]

    def _run(self, segment: Segment, records_max: int) -> Run | None:
        """The next of it; None where there is none, or the disk does not give it, and it is set aside."""
        try:
            return segment.run(records_max)
        except FileNotFoundError:  # somebody has tidied up
            segment.read_to = segment.size
        except OSError as error:
            segment.aside_until_us = Micros(self._now_us() + READ_AGAIN_S * US_PER_S)
            self._root.pass_over(segment.path, error)
        return None

    def _count(self, segment: Segment, run: Run) -> None:
        """Damage that reaches to the end of the file is what a crash leaves of the last write."""
        if not run.records:
            self.counters.torn += run.end == segment.size
            self.counters.corrupt += run.end != segment.size
        elif segment.own:
            segment.unread.subtract(Counter(map(_topic, run.records)))
        else:
            self.counters.adopted += len(run.records)

    def _sync(self, now: Micros) -> None:
        if now - self._synced >= self._limits.fsync_ms * 1_000:
            for segment in self._active.values():
                segment.sync()
            self._synced = now

    def _save_cursors(self) -> None:
        for segment in self._segments:
            segment.save_cursor()

    def _remove_finished(self) -> None:
        for segment in [segment for segment in self._segments if segment.finished]:
            self._tell_unread(segment, Loss.SPOOL_CORRUPT)  # all was read, and these were not there
            self._remove(segment)
        for claim in [claim for claim in self._adopted if not self._segments_in(claim)]:
            self._adopted.remove(claim)
            self._release(claim)

    def _release(self, claim: Claim) -> None:
        """It is no longer ours, also where its directory cannot be removed."""
        with self._root.passing_over(claim.path):
            self._root.release(claim)

    def _segments_in(self, claim: Claim) -> list[Segment]:
        return [segment for segment in self._segments if segment.path.parent == claim.path]

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        segment.remove()

    def _expire(self, now: Micros) -> None:
        """Seal what is old, so that it can go whole; drop what is older than it may be."""
        for segment in [each for each in self._active.values() if _is_old(each, now) or _idle(each)]:
            self._seal(segment)
        limit_us = self._limits.age_s_max * US_PER_S
        for segment in [each for each in self._segments if _may_be_dropped(each) and now - each.written_us > limit_us]:
            self._drop(segment, Loss.SPOOL_EXPIRED)

    def _measure(self) -> None:
        self._others_bytes = self._root.bytes_used({claim.path.name for claim in self._claims()})

    def _claims(self) -> list[Claim]:
        return [*self._adopted, *([] if self._own is None else [self._own])]

    def _adopt(self) -> None:
        since = self._now_us() - LEAVE_S * US_PER_S
        self._left = {path: at for path, at in self._left.items() if at > since}
        claims = self._root.claim_orphans(self._left)
        self._adopted.extend(claims)  # all of them first: one that is not among these would stay locked, and nobody's
        for claim in claims:
            with self._root.passing_over(claim.path):
                for path in sorted(claim.path.iterdir()):
                    with self._root.passing_over(path):
                        self._take_over(path)

    def _take_over(self, path: Path) -> None:
        if path.suffix == CURSOR_SUFFIX and not path.with_suffix(SUFFIX).exists():
            path.unlink()
            return
        segment = Segment.found(path, self._disk)
        if segment is not None:
            insort(self._segments, segment, key=_order)


def _may_be_dropped(segment: Segment) -> bool:
    """What somebody has in hand stays on disk: should it not be sent, it is nowhere else."""
    return segment.size > 0 and not segment.held and not segment.in_hand


def _order(segment: Segment) -> str:
    return segment.path.name


def _is_old(segment: Segment, now: Micros) -> bool:
    return now - segment.created_us > SEGMENT_AGE_S_MAX * US_PER_S


def _idle(segment: Segment) -> bool:
    """All of it is settled: sealed, it can go."""
    return segment.size > 0 and segment.exhausted and not segment.in_hand
