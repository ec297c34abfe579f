"""What cannot be read, taken over or let go of on disk costs what else is there nothing."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.config import SpoolLimits
from producers.file_lock import LockFile
from producers.spool import directory
from producers.spool.directory import LOCK, SpoolRoot
from producers.spool.file_system import PosixFileSystem
from producers.spool.log import READ_AGAIN_S, SpoolLog
from tests.producers.spools import Clock, open_log
from tests.producers.test_spool_log import adopt, read_all, records


class UnreadableDisk(PosixFileSystem):
    """Does not give the segments named."""

    def __init__(self) -> None:
        self.unreadable: set[str] = set()

    def read(self, path: Path, start: int, end: int) -> bytes:
        if path.name in self.unreadable:
            raise OSError(errno.EIO, "input/output error")
        return super().read(path, start, end)


def segments(root: Path) -> list[Path]:
    return sorted(root.rglob("*.spool"), key=lambda path: path.name)


def wait(clock: Clock, seconds: int) -> None:
    clock.now += seconds * 1_000_000


def leave(root: Path, first: int, end: int, size: int = 10, pause_s: int = 0) -> Path:
    """The directory of an emitter that has ended."""
    before, clock = set(root.iterdir()), Clock()
    log = open_log(root, now_us=clock)
    for number in range(first, end, 10):
        log.append(records(number, number + 10, size), held=False)
        wait(clock, pause_s)
    log.close()
    [made] = {path for path in root.iterdir() if path.name != LOCK} - before
    return made


def test_what_the_disk_does_not_give_is_tried_again_after_a_while(tmp_path: Path) -> None:
    disk, clock = UnreadableDisk(), Clock()
    log = open_log(tmp_path, now_us=clock, disk=disk)
    log.append(records(0, 10), held=False)
    disk.unreadable = {path.name for path in segments(tmp_path)}
    unread = [log.unread]
    assert read_all(log)[0] == []
    unread.append(log.unread)
    disk.unreadable.clear()
    assert read_all(log)[0] == []
    wait(clock, READ_AGAIN_S)
    unread.append(log.unread)
    assert unread == [True, False, True], "or its thread would go round and round"
    assert (read_all(log)[0], log.passed_over, log.losses) == (list(range(10)), 1, [])


def test_what_the_disk_does_not_give_holds_up_neither_what_is_before_nor_what_is_behind(tmp_path: Path) -> None:
    disk, clock = UnreadableDisk(), Clock()
    log = open_log(tmp_path, now_us=clock, disk=disk)
    for first in (0, 5, 10):
        log.append(records(first, first + 5), held=False)
        wait(clock, 120)  # it is old by then, and the next is begun
    disk.unreadable = {segments(tmp_path)[1].name}
    assert read_all(log)[0] == [*range(5), *range(10, 15)]
    disk.unreadable.clear()
    wait(clock, READ_AGAIN_S)
    assert read_all(log)[0] == list(range(5, 10))


def adopter(root: Path, clock: Clock, disk: UnreadableDisk) -> SpoolLog:
    log = open_log(root, SpoolLimits(bytes_max=1 << 20, age_s_max=7_200), now_us=clock, disk=disk)
    for path in segments(root):
        os.utime(path, ns=(clock.now * 1_000, clock.now * 1_000))
    adopt(log, clock)
    disk.unreadable = {path.name for path in segments(root)}
    return log


def test_what_cannot_be_counted_any_more_is_dropped_at_the_cap_on_size(tmp_path: Path) -> None:
    leave(tmp_path, 0, 1_900, 500)
    clock, disk = Clock(), UnreadableDisk()
    log = adopter(tmp_path, clock, disk)
    left = len(segments(tmp_path))
    for first in range(0, 4_000, 10):
        log.append(records(first, first + 10, 500), held=False)
    assert log.counters.adopted_lost == {"spool_corrupt": left}
    assert {path.name for path in segments(tmp_path)}.isdisjoint(disk.unreadable)


def test_what_cannot_be_counted_any_more_is_dropped_at_the_cap_on_age(tmp_path: Path) -> None:
    leave(tmp_path, 0, 10)
    clock, disk = Clock(), UnreadableDisk()
    log = adopter(tmp_path, clock, disk)
    wait(clock, 7_201)
    log.tend()
    assert (log.counters.adopted_lost, segments(tmp_path)) == ({"spool_corrupt": 1}, [])


def test_a_directory_that_cannot_be_claimed_leaves_the_others_to_be_adopted(tmp_path: Path) -> None:
    left = [leave(tmp_path, first, first + 10) for first in (0, 10, 20)]
    (left[1] / LOCK).unlink()
    (left[1] / LOCK).mkdir()
    clock = Clock()
    log = open_log(tmp_path, now_us=clock)
    adopt(log, clock)
    assert read_all(log)[0] == [*range(10), *range(20, 30)]
    assert log.passed_over == 1
    (left[1] / LOCK).rmdir()
    adopt(log, clock)
    assert read_all(log)[0] == list(range(10, 20))


def test_a_file_that_cannot_be_taken_over_leaves_the_others_to_be(tmp_path: Path) -> None:
    first = leave(tmp_path, 0, 20, pause_s=120)  # the file is old by then, and another one is begun
    leave(tmp_path, 20, 30)
    cursor = segments(first)[0].with_suffix(".cursor")
    cursor.mkdir()
    clock = Clock()
    log = open_log(tmp_path, now_us=clock)
    adopt(log, clock)
    found, places = read_all(log)
    assert (sorted(found), log.passed_over) == (list(range(10, 30)), 1)
    cursor.rmdir()
    log.settle(Counter(places))
    adopt(log, clock)
    assert read_all(log)[0] == list(range(10))


def test_a_directory_that_cannot_be_listed_leaves_the_others_to_be_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [leave(tmp_path, first, first + 10) for first in (0, 10)]
    iterdir = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path == left[0]:
            raise OSError(errno.EIO, "input/output error")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    clock = Clock()
    log = open_log(tmp_path, now_us=clock)
    adopt(log, clock)
    log.tend()
    assert (read_all(log)[0], log.passed_over) == (list(range(10, 20)), 2)
    monkeypatch.undo()
    adopt(log, clock)
    assert read_all(log)[0] == list(range(10))


def test_a_directory_that_nobody_may_look_into_leaves_the_hosts_use_to_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [leave(tmp_path, first, first + 10) for first in (0, 10)]
    scandir = os.scandir

    def refusing(path: Any) -> Iterator[Any]:
        if os.fspath(path) == str(left[0]):
            raise PermissionError(errno.EACCES, "permission denied")
        return scandir(path)

    used = SpoolRoot(tmp_path).bytes_used()
    monkeypatch.setattr(os, "scandir", refusing)
    root = SpoolRoot(tmp_path)
    assert (root.bytes_used(), root.passed_over) == (used // 2, 1)


def test_who_cannot_have_the_roots_lock_at_its_end_leaves_its_directory_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "ROOT_LOCK_TRIES_MAX", 1)
    log = open_log(tmp_path)
    log.append(records(0, 10), held=False)
    lock = LockFile(tmp_path / LOCK)
    assert lock.try_lock()
    log.close()
    lock.let_go()
    assert len(SpoolRoot(tmp_path).claim_orphans()) == 1
