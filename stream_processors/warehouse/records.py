"""The words that the sink's rooms share: where records stand, and what is known of them. Values only."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from confluent_kafka import KafkaError

from schemas.envelope import RUN_BYTES_MAX, fence_key
from schemas.events import DeadLetter
from schemas.tables import TABLE_OF_RECORD
from schemas.topics import Topic


class Place(NamedTuple):
    """A partition of a topic, by the name under which it is fetched."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Position(NamedTuple):
    """How far a partition of a topic has been brought in."""

    offset: int
    topic_id: UUID


class Route(NamedTuple):
    """Which record a topic holds, and which table takes it."""

    record: str
    table: str

    @classmethod
    def of(cls, topic: Topic) -> "Route":
        assert topic.record is not None, "only topics with a record have a table"
        return cls(topic.record, TABLE_OF_RECORD[topic.record])


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the records of one run go (the live stream's, or one replay's), and which fence says who may write them."""

    run: str
    fence: str
    letters: str
    tables: Mapping[str, str]
    """By record."""
    fenced_by_run: bool = False
    """Whether the fence's keys end in the run."""
    trial: str | None = None
    """A table that keeps nothing and computes what the record's own does, where types alone do not say what is refused."""

    def fence_key(self, topic_id: UUID, partition: int) -> bytes:
        """Bytes that also stand in the envelope."""
        key = fence_key(topic_id, partition)
        return key + self.run.encode().ljust(RUN_BYTES_MAX, b"\0") if self.fenced_by_run else key

    def write_comment(self, topic_id: UUID, partition: int) -> str:
        """The log_comment of every insert of a partition, by which the drain finds them."""
        comment = f"tailrace {topic_id}:{partition}"
        return f"{comment} {self.run}" if self.fenced_by_run else comment


LIVE = Destination("live", "ingest_fence", "dead_letters", TABLE_OF_RECORD)


class Message(Protocol):
    """A consumed record, as confluent_kafka gives it. Its length is that of its value."""

    def __len__(self) -> int: ...
    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def error(self) -> KafkaError | None: ...


class OffsetRanges:
    """A set of offsets, kept as half-open ranges [first, end), sorted and apart, whatever it was made of."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in sorted(ranges):
            if self._ends and first <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._firsts.append(first)
                self._ends.append(end)

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._firsts, offset) - 1
        return index >= 0 and offset < self._ends[index]

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._ends, strict=True)

    @property
    def end(self) -> int:
        """No offset from here on is in the set."""
        return self._ends[-1] if self._ends else 0

    def count(self) -> int:
        return sum(self._ends) - sum(self._firsts)

    def missing(self, first: int, end: int) -> "OffsetRanges":
        """What of [first, end) is not in here."""
        gaps, at = [], first
        for held_first, held_end in self:
            if held_first > at:
                gaps.append((at, min(held_first, end)))
            at = max(at, held_end)
            if at >= end:
                break
        if at < end:
            gaps.append((at, end))
        return OffsetRanges((start, stop) for start, stop in gaps if start < stop)


class GapReason(StrEnum):
    """Why offsets will never be in the warehouse."""

    EXPIRED = "expired"
    """Older than the log's retention before they were read."""
    RECREATED = "recreated"
    """Their topic was deleted, and another one goes by its name."""
    TRUNCATED = "truncated"
    """The log ends before what was read of it: the broker has lost them, and new records take their offsets."""


class Gap(NamedTuple):
    """Offsets [first, end) of one topic's partition that will never be in the warehouse; `end` is None where nobody can know."""

    topic_id: UUID
    reason: GapReason
    first: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Ownership:
    """What `own` has proven of a partition: who we are to the fence, where to go on, and what is accounted for from there.

    `present` holds all below `start`, rows, dead letters and recorded gaps: what is not to be inserted again, or never will be. A
    batch that was kept over a loss of the partition may reach below `start`.
    """

    place: Place
    topic_id: UUID
    owner: bytes
    start: int
    present: OffsetRanges


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that cannot go into its table, and why. `schema_id` is 0 where none could be read."""

    offset: int
    kafka_time_ms: int
    schema_id: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Standing:
    """How a partition stands at one moment. Seconds; records."""

    place: Place
    owned: bool
    stopped: bool
    """It waits for somebody to mend something."""
    lag_records: int
    lag_s: float
    waiting_s: float
    progress_s: float
    """When a batch of it was last in, by the wall clock; 0 while none has been."""
    gathered: int
    trouble: str | None
    """What made it rest the last time, None since it got on."""
