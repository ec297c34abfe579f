"""The oracle: every record that the harness has produced, by the coordinates that the broker gave it, and its due fate.

Nothing in here was told by the sink or the warehouse. Safe for the producers' callbacks and the scenario's thread together.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Coordinates(NamedTuple):
    """Where Kafka keeps a record, for ever: the topic by its id, as 36 characters."""

    topic_id: str
    partition: int
    offset: int


class Fate(StrEnum):
    """What must become of a record."""

    ROW = "row"
    LETTER = "letter"
    NOTHING = "nothing"
    """Its transaction was aborted."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What a poisoned record was before it was spoilt."""

    table: str
    number: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One record. `number` is the event's within its table, the same for a duplicate; of poison, the CRC-32 of its bytes."""

    table: str
    kind: str
    fate: Fate
    number: int
    sound: Sound | None = None


class Ledger:
    """Grows only. `gone` are records that the harness made Kafka let go of: each is in the warehouse or in a recorded gap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Coordinates, Entry] = {}
        self._gone: set[Coordinates] = set()
        self._repaired: dict[Coordinates, Sound] = {}

    def note(self, where: Coordinates, entry: Entry) -> None:
        with self._lock:
            assert where not in self._entries, f"the broker has given {where} to two records"
            self._entries[where] = entry

    def let_go(self, topic_id: str, partition: int, end: int) -> int:
        """Kafka no longer has what is below `end`. How many records that concerns."""
        with self._lock:
            gone = {where for where in self._entries if where[:2] == (topic_id, partition) and where.offset < end}
            self._gone |= gone
            return len(gone)

    def repair(self, mended: Mapping[Coordinates, Sound]) -> None:
        """These dead letters have been brought in as what they were: each stays one, and is a row besides."""
        with self._lock:
            self._repaired.update(mended)

    @property
    def repaired(self) -> Mapping[Coordinates, Sound]:
        with self._lock:
            return MappingProxyType(dict(self._repaired))

    @property
    def entries(self) -> Mapping[Coordinates, Entry]:
        """A view of the moment: take it when the producers have been flushed."""
        with self._lock:
            return MappingProxyType(dict(self._entries))

    @property
    def gone(self) -> frozenset[Coordinates]:
        with self._lock:
            return frozenset(self._gone)

    def __len__(self) -> int:
        return len(self._entries)
