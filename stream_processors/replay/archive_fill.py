"""The pieces of a run that come from an archive: partitions side by side, file after file, under the run's fence.

A partition is owned as any is (fence, drain, look at what is in), and owned again after every answer that is not clean, so a run
may be killed anywhere and go on. A file of data goes in by one insert, with nothing decoded; one that the engine refuses, what is
no datum, and what is to be transformed take the sink's way: examined record by record, dead letters buried, the rest inserted.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from schemas.errors import PartUnreachable
from stream_processors.archive.container import ArchivedMessage
from stream_processors.archive.reading import ArchiveReader, Shelf
from stream_processors.replay.manifest import Manifest, Piece, PieceSource
from stream_processors.replay.present import present
from stream_processors.warehouse.batch import Batch
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letter_limit import DeadLetterLimit
from stream_processors.warehouse.delivery import Delivery
from stream_processors.warehouse.errors import Retryable, TooManyDeadLetters
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.ownership import drain, fence
from stream_processors.warehouse.records import Destination, OffsetRanges, Ownership, Place
from stream_processors.warehouse.suspicion import Look

TRIES_MAX = 10
"""How often a partition is owned without getting on before the run ends."""
_PAUSE_S = 0.1
_PAUSE_S_MAX = 5.0
_WAIT_S = 0.05


class _Stopped(Exception):  # noqa: N818 - says what is the case
    """Somebody wants the run to end."""


class Pace(Protocol):
    """How many records may be read now, told how many were; `rows_per_s` of None is without a limit."""

    @property
    def rows_per_s(self) -> float | None: ...
    def allowance(self) -> int: ...
    def took(self, records: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the records come from and go to. Threads share them."""

    archive: ArchiveReader
    writer: ClickHouseWriter
    delivery: Delivery
    metrics: SinkMetrics
    into: Destination
    pace: Pace
    rows_max: int
    """So many go in at once where a rate is to be kept, or records are examined; files go in whole otherwise."""


@dataclass(slots=True)
class _Progress:
    """What has become of one partition. `suspects` are files that the engine has refused whole."""

    partition: int
    pieces: tuple[Piece, ...]
    limit: DeadLetterLimit
    done: int = 0
    """Offsets of the pieces below which all is in."""
    tries: int = 0
    suspects: set[str] = field(default_factory=set)

    def advance(self, done: int) -> None:
        """Getting on, however little, is a reason to try on."""
        if done > self.done:
            self.done, self.tries = done, 0


class ArchiveFill:
    """All archive pieces of one run. `troubles` are partitions that wait for somebody to mend something; the others are in."""

    def __init__(
        self, doors: Doors, manifest: Manifest, new_limit: Callable[[], DeadLetterLimit], refuse_taken_over: Callable[[], None]
    ) -> None:
        self._doors, self._manifest, self._refuse_taken_over = doors, manifest, refuse_taken_over
        self.troubles: dict[Place, Retryable] = {}
        self._pace_lock = Lock()
        self._over: Callable[[], bool] = bool
        self._parts = [
            _Progress(each.partition, pieces, new_limit())
            for each in manifest.ranges
            if (pieces := tuple(piece for piece in each.pieces if piece.source is PieceSource.ARCHIVE))
        ]

    @property
    def done(self) -> int:
        """Offsets that are in, or hold no record."""
        return sum(part.done for part in self._parts)

    @property
    def total(self) -> int:
        return sum(piece.end - piece.first for part in self._parts for piece in part.pieces)

    def fill(self, workers: int, stopped: Callable[[], bool], tell: Callable[[], None]) -> None:
        """Bring in what is not in yet; `tell` is called now and then. Raises what the first partition to fail raises."""
        ended = False

        self._over = lambda: ended or stopped()
        with ThreadPoolExecutor(workers, "tailrace-archive") as pool:
            running = [pool.submit(self._bring_in, part) for part in self._parts]
            try:
                while not all(future.done() for future in running):
                    time.sleep(_WAIT_S)
                    tell()
                    ended = ended or any(future.done() and future.exception() for future in running)
            finally:
                ended = True
        for future in running:
            future.result()
        tell()

    def _bring_in(self, part: _Progress) -> None:
        while not self._over():
            try:
                self._owned(part)
            except _Stopped:
                return
            except Retryable as trouble:
                self._met(part, trouble)
                if trouble.needs_somebody:
                    self.troubles[Place(self._manifest.topic, part.partition)] = trouble
                    return
            else:
                return

    def _met(self, part: _Progress, trouble: Retryable) -> None:
        """Rest, or give up. Raises PartUnreachable after TRIES_MAX."""
        place = Place(self._manifest.topic, part.partition)
        self._doors.metrics.failed(place, trouble)
        if trouble.outcome == "not_owner":
            self._refuse_taken_over()
        part.tries += 1
        if part.tries >= TRIES_MAX and not trouble.needs_somebody:
            remedy = f"tried {part.tries} times; run it again, what is in stays in ({trouble})"
            raise PartUnreachable(f"the partition {place}", "the warehouse", remedy) from trouble
        if not trouble.blames_the_data and not trouble.needs_somebody:
            time.sleep(min(_PAUSE_S_MAX, _PAUSE_S * 2**part.tries) * random.uniform(0.5, 1))  # noqa: S311 - keeps tries apart

    def _owned(self, part: _Progress) -> None:
        """Own the partition, and bring in its pieces."""
        manifest, into, writer = self._manifest, self._doors.into, self._doors.writer
        place = Place(manifest.topic, part.partition)
        owner = fence(writer, manifest.topic_id, place, into)
        drain(writer, into.write_comment(manifest.topic_id, part.partition))
        here = present(writer, manifest.run, manifest.run_table, manifest.topic_id, part.partition)
        passed = 0
        for piece in part.pieces:
            ownership = Ownership(place, manifest.topic_id, owner, piece.first, OffsetRanges([(0, piece.first), *here.ranges]))
            for entry_end, shelves in self._entries(part.partition, piece):
                for shelf, span in shelves:
                    self._file(part, ownership, shelf, span)
                part.advance(passed + entry_end - piece.first)
            passed += piece.end - piece.first
            part.advance(passed)

    def _entries(self, partition: int, piece: Piece) -> Iterator[tuple[int, list[tuple[Shelf, tuple[int, int]]]]]:
        """Entry by entry where it ends, and its files with what is wanted of them; what is no datum comes last."""
        shelves = self._doors.archive.shelves(self._manifest.topic_id, partition, piece.first, piece.end)
        for entry in dict.fromkeys(shelf.entry for shelf in shelves):
            files = sorted((shelf for shelf in shelves if shelf.entry is entry), key=lambda shelf: shelf.file.schema_id is None)
            wanted = (max(piece.first, entry.first), min(piece.end, entry.end))
            yield wanted[1], [(shelf, wanted) for shelf in files]

    def _file(self, part: _Progress, ownership: Ownership, shelf: Shelf, wanted: tuple[int, int]) -> None:
        file = shelf.file
        first, end = max(file.first, wanted[0]), min(file.end, wanted[1])
        if first >= end or not ownership.present.missing(first, end):
            return
        decoded = file.schema_id is None or shelf.path in part.suspects or self._manifest.transform is not None
        try:
            if decoded:
                self._examined(part, ownership, shelf, (first, end))
            else:
                self._whole(part, ownership, shelf, (first, end))
        except Retryable as trouble:
            if trouble.blames_the_data:
                part.suspects.add(shelf.path)
            raise

    def _whole(self, part: _Progress, ownership: Ownership, shelf: Shelf, wanted: tuple[int, int]) -> None:
        """By one insert; under a rate, by several."""
        doors, place = self._doors, ownership.place
        file = doors.archive.open(shelf)
        table = doors.into.tables[self._manifest.record]
        comment = doors.into.write_comment(ownership.topic_id, place.partition)
        for span in self._spans(wanted):
            with doors.metrics.spending("splice"):
                spliced = file.splice(ownership.owner, doors.into.run, span, ownership.present)
            if not spliced.rows:
                continue
            self._wait(spliced.rows)
            with doors.metrics.insert(table, len(spliced.container)):
                doors.writer.insert(table, spliced.columns, spliced.container, comment)
            doors.metrics.inserted(place, spliced.rows)
            part.limit.note(spliced.rows, 0)

    def _examined(self, part: _Progress, ownership: Ownership, shelf: Shelf, wanted: tuple[int, int]) -> None:
        """Record by record, as what came from Kafka."""
        messages = self._doors.archive.read(shelf, *wanted)
        suspect = shelf.file.schema_id is None or shelf.path in part.suspects
        for some in self._chunks(messages):
            self._wait(len(some))
            batch = Batch(some[0].offset())
            batch.extend(some, 0.0)
            look = Look.WITH_THE_ENGINE if suspect else Look.NOT
            plan = self._doors.delivery.examine(batch, ownership, self._manifest.record, look)
            if part.limit.reached(len(some), len(plan.rejections)):
                reasons = ", ".join(sorted({rejection.letter.reason for rejection in plan.rejections}))
                told = f"{len(plan.rejections)} of {len(some)} records are poison ({reasons})"
                raise TooManyDeadLetters(f"{ownership.place}: {told}")
            letters = len(plan.rejections)
            while plan.burials:
                self._doors.delivery.bury(plan, ownership)
            while plan.inserts:
                self._doors.delivery.insert(plan, ownership, self._manifest.record)
            part.limit.note(len(some), letters)

    def _spans(self, wanted: tuple[int, int]) -> Iterator[tuple[int, int]]:
        if self._doors.pace.rows_per_s is None:
            yield wanted
            return
        for first in range(wanted[0], wanted[1], self._doors.rows_max):
            yield first, min(first + self._doors.rows_max, wanted[1])

    def _wait(self, rows: int) -> None:
        """Until so many may be read. What is taken beyond the allowance is waited for with the next. Raises _Stopped."""
        while True:
            if self._over():
                raise _Stopped
            with self._pace_lock:
                if self._doors.pace.allowance() > 0:
                    self._doors.pace.took(rows)
                    return
            time.sleep(_WAIT_S)

    def _chunks(self, messages: Sequence[ArchivedMessage]) -> Iterator[list[ArchivedMessage]]:
        for first in range(0, len(messages), self._doors.rows_max):
            yield list(messages[first : first + self._doors.rows_max])
