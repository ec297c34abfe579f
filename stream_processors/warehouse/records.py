"""The words that the sink's rooms share: where records stand, and what is known of them. Values only."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from schemas.events import DeadLetter


class Place(NamedTuple):
    """A partition of a topic, by the name under which it is fetched."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Message(Protocol):
    """A consumed record, as confluent_kafka gives it."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...


class OffsetRanges:
    """A set of offsets as half-open ranges [first, end), sorted and apart."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted(ranges)
        self._firsts = [first for first, _ in ordered]
        self._ends = [end for _, end in ordered]

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._firsts, offset) - 1
        return index >= 0 and offset < self._ends[index]

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def count(self) -> int:
        return sum(self._ends) - sum(self._firsts)


@dataclass(frozen=True, slots=True)
class Ownership:
    """What `own` has proven of a partition: who we are to the fence, where to go on, and what the warehouse has from there."""

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
