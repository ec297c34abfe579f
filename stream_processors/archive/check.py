"""Whether an archive is whole: every chain from its beginning, every file that it names. Only a sweep changes anything."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from stream_processors.archive.container import ArchivedMessage
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.ledger import READERS, Entry, Ledger, first_of, partitions
from stream_processors.archive.object_store import ObjectStore, Stored
from stream_processors.archive.reading import Shelf, messages_of, refuse_length


@dataclass(frozen=True, slots=True)
class Problem:
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class PartitionSummary:
    """Offsets [0, end) are archived, but for `lost_offsets`; `left_over` are files that no entry names. Times are Kafka's."""

    topic: str
    topic_id: str
    partition: int
    end: int
    entries: int
    files: int
    rows: int
    raw_rows: int
    bytes: int
    lost_offsets: int
    oldest_ms: int | None
    newest_ms: int | None
    left_over: int


@dataclass(frozen=True, slots=True)
class Checked:
    partition: PartitionSummary
    problems: tuple[Problem, ...]


def check(store: ObjectStore, *, deep: bool, sweep: bool = False) -> Iterator[Checked]:
    """Partition by partition. With `deep` every byte is read; with `sweep` files that nothing can name any more are deleted."""
    for folder in partitions(store):
        ledger = Ledger(store, folder)
        firsts, objects = ledger.listed()
        entries, problems = _entries(ledger, firsts)
        problems += _chain(folder, entries, firsts)
        found = {each.path: each for each in objects}
        shelves = [Shelf(entry, file) for entry in entries for file in entry.files]
        problems += _damages(store, found, shelves, deep=deep)
        named = {shelf.path for shelf in shelves}
        left = [each for path, each in found.items() if path not in named]
        if sweep and not problems:
            for each in _unnameable(left, entries):
                store.delete(each.path)
                left.remove(each)
        yield Checked(_summary(folder, entries, len(left)), tuple(problems))


def _entries(ledger: Ledger, firsts: list[int]) -> tuple[list[Entry], list[Problem]]:
    entries, problems = [], []
    for first in firsts:
        try:
            entries.append(ledger.entry(first))
        except ArchiveDamaged as damage:
            problems.append(Problem(damage.path, damage.what))
    return entries, problems


def _chain(folder: str, entries: list[Entry], firsts: list[int]) -> list[Problem]:
    """An entry that is there and cannot be read is a problem of its own already."""
    problems = []
    if firsts and firsts[0] != 0:
        problems.append(Problem(folder, f"begins at offset {firsts[0]}: the entry of 0 is missing"))
    read = {entry.first: entry for entry in entries}
    for first, following in pairwise(firsts):
        if first not in read or (end := read[first].end) == following:
            continue
        what = (
            f"the entry of [{end}, {following}) is missing" if end < following else f"overlaps the one that begins at {following}"
        )
        problems.append(Problem(read[first].path if end > following else folder, what))
    return problems


def _damages(store: ObjectStore, found: Mapping[str, Stored], shelves: list[Shelf], *, deep: bool) -> list[Problem]:
    """What is wrong with files that entries name."""

    def look(shelf: Shelf) -> Problem | None:
        stored = found.get(shelf.path)
        if stored is None:
            return Problem(shelf.path, "is missing")
        try:
            refuse_length(shelf, stored.bytes)
            return _misread(shelf, messages_of(store, shelf)) if deep else None
        except ArchiveDamaged as damage:
            return Problem(damage.path, damage.what)

    with ThreadPoolExecutor(READERS) as pool:
        return [problem for problem in pool.map(look, shelves) if problem is not None]


def _misread(shelf: Shelf, messages: list[ArchivedMessage]) -> Problem | None:
    offsets, file = [message.offset() for message in messages], shelf.file
    if len(offsets) == file.rows and (offsets[0], offsets[-1] + 1) == (file.first, file.end) and sorted(set(offsets)) == offsets:
        return None
    return Problem(shelf.path, f"holds {len(offsets)} records, and not those that its entry says")


def _unnameable(left: list[Stored], entries: list[Entry]) -> list[Stored]:
    """Of what no entry names, what lies below the chain's end: its place is taken. Beyond it an archiver may be at work."""
    end = entries[-1].end if entries else 0
    return [each for each in left if 0 <= first_of(each.path.rpartition("/")[2]) < end]


def _summary(folder: str, entries: list[Entry], left_over: int) -> PartitionSummary:
    topic, topic_id, partition = folder.rsplit("/", 2)
    files = [file for entry in entries for file in entry.files]
    return PartitionSummary(
        topic=topic,
        topic_id=topic_id,
        partition=int(partition),
        end=entries[-1].end if entries else 0,
        entries=len(entries),
        files=len(files),
        rows=sum(file.rows for file in files),
        raw_rows=sum(file.rows for file in files if file.schema_id is None),
        bytes=sum(file.bytes for file in files),
        lost_offsets=sum(end - first for entry in entries for first, end in entry.lost),
        oldest_ms=min((file.oldest_ms for file in files), default=None),
        newest_ms=max((file.newest_ms for file in files), default=None),
        left_over=left_over,
    )
