"""What is archived of a partition: a chain of entries, each a range of offsets and the files that hold its records.

    <topic>/<topic id>/<partition>/<first, 20 digits>.json              an entry
    <topic>/<topic id>/<partition>/<first>-<end>.<schema id>.<sum>.avro   the records of one schema and one day
    <topic>/<topic id>/<partition>/<first>-<end>.raw.<sum>.avro           records that are no datum of their topic, as they were

The chain begins at offset 0, and an entry begins where the one before it ends. Its name is its first offset, and no object is
ever put in the place of another, so of any number of archivers one appends, and each offset is in exactly one entry. The files
are put before their entry: what no entry names does not exist. It was left by an archiver that was stopped, or that was second;
below the chain's end it can never be named any more, and may be deleted at any time.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.object_store import ObjectStore, Stored

VERSION = 1
READERS = 16
_ENTRY_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """`schema_id` of None: records that are no datum of their topic. Offsets [first, end) are those of its first and last record.

    `bytes` and `sha256` are of the file as it lies in the store; times are Kafka's, in milliseconds.
    """

    name: str
    schema_id: int | None
    rows: int
    bytes: int
    sha256: str
    first: int
    end: int
    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """All that Kafka had of [first, end). `lost` had expired before it was read; `holes` hold no record (transaction markers,
    aborted, compacted).
    """

    topic: str
    topic_id: UUID
    partition: int
    first: int
    end: int
    files: tuple[ArchivedFile, ...]
    lost: tuple[tuple[int, int], ...] = ()
    holes: tuple[tuple[int, int], ...] = ()

    @property
    def folder(self) -> str:
        return folder(self.topic, self.topic_id, self.partition)

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.first:020d}{_ENTRY_SUFFIX}"

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def newest_ms(self) -> int | None:
        return max((file.newest_ms for file in self.files), default=None)

    def as_bytes(self) -> bytes:
        fields = {"version": VERSION, **asdict(self), "topic_id": str(self.topic_id)}
        return _canonical({**fields, "sha256": hashlib.sha256(_canonical(fields)).hexdigest()})

    @classmethod
    def from_bytes(cls, path: str, content: bytes) -> "Entry":
        """Raises ArchiveDamaged where the bytes are not those that were written, or stand under another name."""
        try:
            fields = _checked(json.loads(content))
            entry = cls(
                topic_id=UUID(fields.pop("topic_id")),
                files=tuple([ArchivedFile(**file) for file in fields.pop("files")]),
                lost=_ranges(fields.pop("lost")),
                holes=_ranges(fields.pop("holes")),
                **fields,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArchiveDamaged(path, f"was altered: {error}") from error
        if entry.path != path:
            raise ArchiveDamaged(path, f"is another entry: {entry.path}")
        return entry


class Ledger:
    """The chain of one partition. Raises PartUnreachable, ArchiveDamaged."""

    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store, self.folder = store, folder

    def listed(self) -> tuple[list[int], list[Stored]]:
        """The first offsets of the entries, in order, and all objects that are no entries."""
        objects = self._store.below(self.folder)
        firsts = [int(name.removesuffix(_ENTRY_SUFFIX)) for each in objects if (name := _name(each)).endswith(_ENTRY_SUFFIX)]
        return firsts, [each for each in objects if not each.path.endswith(_ENTRY_SUFFIX)]

    def end(self) -> int:
        """Where the next entry begins: 0 where there is none."""
        firsts, _ = self.listed()
        return self.entry(firsts[-1]).end if firsts else 0

    def entry(self, first: int) -> Entry:
        path = f"{self.folder}/{first:020d}{_ENTRY_SUFFIX}"
        content = self._store.get(path)
        if content is None:
            raise ArchiveDamaged(path, "is missing")
        return Entry.from_bytes(path, content)

    def entries(self, first: int = 0, end: int | None = None) -> list[Entry]:
        """Those that hold any offset of [first, end), in order."""
        firsts, _ = self.listed()
        wanted = [start for start, after in [*pairwise(firsts), *_last(firsts)] if after > first and (end is None or start < end)]
        with ThreadPoolExecutor(READERS) as pool:
            return [entry for entry in pool.map(self.entry, wanted) if entry.end > first]

    def append(self, entry: Entry) -> bool:
        """Make the entry, whose files are stored, part of the archive; False where another one stands in its place.

        A client that had no answer asks again, and may then meet its own entry.
        """
        content = entry.as_bytes()
        return self._store.put_new(entry.path, content) or self._store.get(entry.path) == content

    def sweep(self, entry: Entry) -> None:
        """Delete what others had stored for the place of `entry` and is not named by it."""
        named = {file.name for file in entry.files}
        _, files = self.listed()
        for each in files:
            if first_of(_name(each)) == entry.first and _name(each) not in named:
                self._store.delete(each.path)


def folder(topic: str, topic_id: UUID, partition: int) -> str:
    return f"{topic}/{topic_id}/{partition}"


def file_name(first: int, end: int, schema_id: int | None, content: bytes) -> str:
    """The name of a file of an entry [first, end). The sum keeps what several archivers store for one place apart."""
    kind = "raw" if schema_id is None else str(schema_id)
    return f"{first}-{end}.{kind}.{hashlib.sha256(content).hexdigest()[:12]}.avro"


def first_of(name: str) -> int:
    """The first offset that a file's name tells; -1 where it tells none."""
    first = name.partition("-")[0]
    return int(first) if first.isdigit() else -1


def partitions(store: ObjectStore) -> Iterator[str]:
    """The folders of all partitions that the archive has anything of."""
    for topic in store.folders(""):
        for topic_id in store.folders(topic):
            yield from store.folders(topic_id)


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    told = fields.pop("sha256")
    if told != hashlib.sha256(_canonical(fields)).hexdigest():
        raise ValueError("its sum is another one")
    if fields.pop("version") != VERSION:
        raise ValueError("it is of a version that is not known here")
    return fields


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _ranges(found: Any) -> tuple[tuple[int, int], ...]:
    return tuple([(int(first), int(end)) for first, end in found])


def _last(firsts: list[int]) -> list[tuple[int, int]]:
    """The last entry, whose end no other one tells."""
    return [(firsts[-1], 1 << 63)] if firsts else []


def _name(stored: Stored) -> str:
    return stored.path.rpartition("/")[2]
