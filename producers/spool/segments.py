"""One file of the spool: what was appended, how far it was read, and what of it is settled.

A segment is read by its name alone: `<created, µs>-<id>.spool`. Beside it a cursor says below which place everything is settled;
it is written without fsync, and a torn one means the start. Only the spool's thread uses these.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from producers.spool.file_system import FileSystem
from producers.spool.frames import CURSOR_BYTES, Run, Scan, SpoolRecord, acknowledged_of, cursor, frame, seed_of
from schemas.events import Micros

SUFFIX, CURSOR_SUFFIX = ".spool", ".cursor"
CLOSED = -1


class Segment:
    """`held` segments hold what the courier has in hand as well: nobody reads them back while it lives. `own` ones were written
    by this emitter; of those `unread` counts, by topic, what was not handed out. `written_us` is when it was last written to.
    `passed_by` are topics of which newer records went to another segment, `aside_until_us` is when it may be read again.
    """

    def __init__(self, path: Path, disk: FileSystem, created_us: Micros, *, own: bool, held: bool = False) -> None:
        self.path, self.created_us, self.own, self.held = path, created_us, own, held
        self.written_us = created_us
        self.size = self.read_to = 0
        self.unread: Counter[str] = Counter()
        self.passed_by: set[str] = set()
        self.aside_until_us = Micros(0)
        self._disk = disk
        self._seed = seed_of(path.stem.encode())
        self._descriptor = CLOSED
        self._dirty = self._cursor_dirty = False
        self._scan: Scan | None = None
        self._unsettled: dict[int, int] = {}
        """By place, in order: how many of the records that were handed out from there on are not settled."""

    @classmethod
    def create(cls, directory: Path, segment_id: str, now: Micros, disk: FileSystem, *, held: bool) -> "Segment":
        """A new file. Raises OSError."""
        segment = cls(directory / f"{now:016d}-{segment_id}{SUFFIX}", disk, now, own=True, held=held)
        segment._descriptor = disk.create(segment.path)
        return segment

    @classmethod
    def found(cls, path: Path, disk: FileSystem) -> "Segment | None":
        """One that another emitter has left. None where the name is not a segment's. Raises OSError."""
        created, _, segment_id = path.stem.partition("-")
        if path.suffix != SUFFIX or not segment_id or not created.isdecimal():
            return None
        segment = cls(path, disk, Micros(int(created)), own=False)
        found = path.stat()
        segment.size, segment.written_us = found.st_size, Micros(found.st_mtime_ns // 1_000)
        segment.read_to = min(segment.size, segment._cursor())
        return segment

    @property
    def sealed(self) -> bool:
        return self._descriptor == CLOSED

    @property
    def exhausted(self) -> bool:
        """Everything was handed out."""
        return self.read_to >= self.size

    @property
    def in_hand(self) -> int:
        """Stretches that were handed out, and are not settled."""
        return len(self._unsettled)

    @property
    def finished(self) -> bool:
        """Nothing is left to do with it."""
        return self.sealed and self.exhausted and not self._unsettled

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def append(self, records: Sequence[SpoolRecord], now: Micros) -> "list[Place]":
        """All of them, or none. Raises OSError; then nothing more may be appended."""
        places: list[Place] = []
        frames, end = [], self.size
        for record in records:
            frames.append(frame(record, self._seed, end))
            places.append((self, end))
            end += len(frames[-1])
        self._disk.write(self._descriptor, b"".join(frames), self.size)
        self.size, self.written_us, self._dirty = end, now, True
        if self.held:
            self.read_to = end
            self._unsettled.update((start, 1) for _, start in places)
        else:
            self.unread.update(record.topic for record in records)
        return places

    def sync(self) -> None:
        """Raises OSError."""
        if self._dirty and not self.sealed:
            self._disk.sync(self._descriptor)
            self._dirty = False

    def seal(self) -> None:
        """Append nothing more. Raises OSError; it is sealed all the same."""
        if self.sealed:
            return
        try:
            self._disk.cut(self._descriptor, self.size)  # what a failed write has left
            self.sync()
        finally:
            descriptor, self._descriptor = self._descriptor, CLOSED
            os.close(descriptor)

    def run(self, records_max: int) -> Run | None:
        """The next that was not handed out; None where all was. Its records are one stretch, which stands at its start. Raises
        OSError.
        """
        if self.exhausted:
            return None
        if self._scan is None:
            self._scan = Scan(self._disk.read(self.path, self.read_to, self.size), self._seed, self.read_to)
        scan, run = self._scan, self._scan.run(records_max)
        if scan.done:
            self._scan = None
        if run.start == run.end:  # the file has less than was written to it
            self.read_to = self.size
            return None
        self.read_to = run.end
        if run.records:
            self._unsettled[run.start] = len(run.records)
        else:
            self._cursor_dirty = True
        return run

    def settle(self, start: int, events: int) -> None:
        """So many records of the stretch at `start` are acknowledged, or lost for a reason that is counted."""
        self._unsettled[start] -= events
        if not self._unsettled[start]:
            del self._unsettled[start]
            self._cursor_dirty = True

    def save_cursor(self) -> None:
        """Raises OSError."""
        if not self._cursor_dirty:
            return
        self._cursor_dirty = False
        settled_to = next(iter(self._unsettled), self.read_to)
        descriptor = os.open(self._cursor_path(), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, cursor(self._seed, settled_to), 0)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Raises OSError."""
        self.forget()
        self.path.unlink(missing_ok=True)
        self._cursor_path().unlink(missing_ok=True)

    def forget(self) -> None:
        """Close what is open and touch nothing."""
        if not self.sealed:
            descriptor, self._descriptor = self._descriptor, CLOSED
            os.close(descriptor)

    def _cursor(self) -> int:
        try:
            return acknowledged_of(self._disk.read(self._cursor_path(), 0, CURSOR_BYTES + 1), self._seed)
        except FileNotFoundError:
            return 0

    def _cursor_path(self) -> Path:
        return self.path.with_suffix(CURSOR_SUFFIX)


Place = tuple[Segment, int]
"""Where a record stands, or a stretch of them begins."""
