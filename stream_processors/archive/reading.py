"""An archive as a replay reads it: which offsets it has, their records, and files made ready for an insert.

Every file's sum is looked at before any of its bytes are used. Raises ArchiveDamaged where a file is not what was written, and
PartUnreachable where the store does not answer. Threads may share a reader.
"""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from stream_processors.archive.container import ArchivedMessage, Reading, Spliced, read_raw, wanted_within
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.ledger import ArchivedFile, Entry, Ledger
from stream_processors.archive.object_store import ObjectStore
from stream_processors.warehouse.records import OffsetRanges
from stream_processors.warehouse.splice import SYNC_BYTES

OPEN_FILES_MAX = 4
"""Kept as they are stored, compressed."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A file and the entry that names it."""

    entry: Entry
    file: ArchivedFile

    @property
    def path(self) -> str:
        return f"{self.entry.folder}/{self.file.name}"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of data in memory."""

    shelf: Shelf
    reading: Reading

    def splice(self, owner: bytes, run: str, span: tuple[int, int], without: OffsetRanges) -> Spliced:
        """The records of [first, end) that are not in `without`, as the body of an INSERT under an owner and a run.

        Nothing is decoded; what is wanted whole is not even taken apart.
        """
        first, end = span
        file = self.shelf.file
        whole = first <= file.first and file.end <= end and not _meets(without, file)
        wanted = None if whole else wanted_within(first, end, without)
        return self.reading.splice(owner, run, self.shelf.entry.topic_id, wanted, secrets.token_bytes(SYNC_BYTES))


class ArchiveReader:
    """Entries are read once for each partition, and kept."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._chains: dict[tuple[UUID, int], list[Entry]] = {}
        self._open: dict[str, OpenFile] = {}
        self._lock = Lock()

    @property
    def url(self) -> str:
        """Where it is, as it may be shown."""
        return self._store.address

    def ranges(self, topic_id: UUID, partition: int) -> list[tuple[int, int]]:
        """The archived [first, end), in order and apart; what holds no record (transaction markers) counts as archived."""
        chain = self._chain(topic_id, partition)
        lost = OffsetRanges(span for entry in chain for span in entry.lost)
        archived = OffsetRanges((entry.first, entry.end) for entry in chain)
        return [span for first, end in archived for span in lost.missing(first, end)]

    def holes(self, topic_id: UUID, partition: int, first: int, end: int) -> OffsetRanges:
        """Offsets of [first, end) that are archived and hold no record: the archiver saw Kafka give what is around them only."""
        spans = (span for entry in self._chain(topic_id, partition) for span in entry.holes)
        return OffsetRanges((max(first, start), min(end, stop)) for start, stop in spans if start < end and stop > first)

    def rows(self, topic_id: UUID, partition: int, first: int, end: int) -> tuple[int, int]:
        """About how many records [first, end) holds, and their bytes as stored: whole files are counted."""
        files = [shelf.file for shelf in self.shelves(topic_id, partition, first, end)]
        return sum(file.rows for file in files), sum(file.bytes for file in files)

    def schema_ids(self, topic_id: UUID, partition: int, first: int, end: int) -> set[int]:
        found = (shelf.file.schema_id for shelf in self.shelves(topic_id, partition, first, end))
        return {schema_id for schema_id in found if schema_id is not None}

    def offset_at(self, topic_id: UUID, partition: int, time_ms: int) -> int | None:
        """The first archived offset that Kafka took at that time or later."""
        for entry in self._chain(topic_id, partition):
            if entry.newest_ms is not None and entry.newest_ms >= time_ms:
                later = (
                    each.offset()
                    for each in self.messages(topic_id, partition, entry.first, entry.end)
                    if each.kafka_time_ms >= time_ms
                )
                return next(later)
        return None

    def shelves(self, topic_id: UUID, partition: int, first: int, end: int) -> list[Shelf]:
        """The files that hold any record of [first, end), entry by entry."""
        chain = self._chain(topic_id, partition)
        return [Shelf(entry, file) for entry in chain for file in entry.files if file.first < end and file.end > first]

    def open(self, shelf: Shelf) -> "OpenFile":
        """A file of data, read whole, and found to be as it was written. The last few are kept."""
        assert shelf.file.schema_id is not None, "what is no datum cannot be spliced"
        with self._lock:
            found = self._open.pop(shelf.path, None)
        if found is None:
            entry = shelf.entry
            found = OpenFile(shelf, Reading(content_of(self._store, shelf), entry.topic, entry.partition))
        with self._lock:
            self._open[shelf.path] = found
            while len(self._open) > OPEN_FILES_MAX:
                del self._open[next(iter(self._open))]
        return found

    def read(self, shelf: Shelf, first: int = 0, end: int = 1 << 63) -> list[ArchivedMessage]:
        """The records of [first, end) in one file."""
        if shelf.file.schema_id is not None:
            return list(self.open(shelf).reading.messages(first, end))
        return [message for message in messages_of(self._store, shelf) if first <= message.offset_ < end]

    def messages(self, topic_id: UUID, partition: int, first: int, end: int) -> Iterator[ArchivedMessage]:
        """The archived records of [first, end), in order, bit for bit as Kafka had them."""
        for entry in self._chain(topic_id, partition):
            if entry.end <= first or entry.first >= end:
                continue
            files = [file for file in entry.files if file.first < end and file.end > first]
            found = [message for file in files for message in self.read(Shelf(entry, file), first, end)]
            yield from sorted(found, key=ArchivedMessage.offset)

    def _chain(self, topic_id: UUID, partition: int) -> list[Entry]:
        key = (topic_id, partition)
        if key not in self._chains:
            folder = self._folder(topic_id)
            self._chains[key] = [] if folder is None else Ledger(self._store, f"{folder}/{partition}").entries()
        return self._chains[key]

    def _folder(self, topic_id: UUID) -> str | None:
        """A topic's folder, whatever its name was."""
        folders = (folder for topic in self._store.folders("") for folder in self._store.folders(topic))
        return next((folder for folder in folders if folder.endswith(f"/{topic_id}")), None)


def content_of(store: ObjectStore, shelf: Shelf) -> bytes:
    """A file's bytes, as they were written. Raises ArchiveDamaged."""
    content = store.get(shelf.path)
    if content is None:
        raise ArchiveDamaged(shelf.path, "is missing")
    refuse_length(shelf, len(content))
    if hashlib.sha256(content).hexdigest() != shelf.file.sha256:
        raise ArchiveDamaged(shelf.path, "was altered: its sum is another one")
    return content


def refuse_length(shelf: Shelf, found: int) -> None:
    """Raises ArchiveDamaged where a file is not as long as it was written."""
    if found != shelf.file.bytes:
        what = "truncated" if found < shelf.file.bytes else "added to"
        raise ArchiveDamaged(shelf.path, f"was {what}: {found} of {shelf.file.bytes} bytes")


def messages_of(store: ObjectStore, shelf: Shelf) -> list[ArchivedMessage]:
    """All records of a file."""
    content, entry = content_of(store, shelf), shelf.entry
    if shelf.file.schema_id is None:
        return list(read_raw(content, entry.topic, entry.partition))
    return list(Reading(content, entry.topic, entry.partition).messages())


def _meets(present: OffsetRanges, file: ArchivedFile) -> bool:
    return present.missing(file.first, file.end).count() != file.end - file.first
