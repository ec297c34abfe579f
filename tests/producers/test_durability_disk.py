"""What becomes of events while the disk is full, hangs, or is gone. The transport is the one in memory."""

import errno
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.config import Durability, SpoolLimits
from producers.memory_transport import MemoryTransport
from producers.spool import inbox
from producers.spool.file_system import PosixFileSystem
from tests.producers.event_samples import KnownSchemaIds
from tests.producers.flaky_transport import FlakyTransport
from tests.producers.programs import told_by
from tests.producers.spooling_emitters import (
    SPOOLING,
    WAIT_S,
    Start,
    books,
    downgrades,
    emit,
    emitters,
    named,
    spool_of,
    surfaces,
)
from tests.waiting import eventually


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emitters(tmp_path) as begin:
        yield begin


class HangingDisk(PosixFileSystem):
    """Writes while `well` is set, and waits for it otherwise."""

    def __init__(self) -> None:
        self.well, self.hanging = threading.Event(), threading.Event()
        self.well.set()

    def write(self, descriptor: int, data: bytes, start: int) -> None:
        if not self.well.is_set():
            self.hanging.set()
        self.well.wait(3 * WAIT_S)
        super().write(descriptor, data, start)


class FullDisk(PosixFileSystem):
    full = True

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().create(path)


def test_past_the_hosts_cap_the_oldest_are_dropped_and_counted(start: Start) -> None:
    transport, limits = FlakyTransport(reachable=False), SpoolLimits(bytes_max=100_000, drain_events_s=1_000_000)
    emitter = start(transport, Durability.SPOOL_ON_ERROR, spool_limits=limits, schema_ids=(registry := KnownSchemaIds(up=False)))
    for first in range(0, 2_000, 100):
        emit(emitter, first, first + 100)
        assert eventually(lambda: books(emitter)[2] == 0, WAIT_S)
    assert eventually(lambda: books(emitter)[4].get("spool_full", 0) > 0, WAIT_S)
    emitted, acknowledged, queued, spooled, dropped = books(emitter)
    assert emitted == acknowledged + queued + spooled + sum(dropped.values())
    registry.up = transport.reachable = True
    assert eventually(lambda: books(emitter)[3] == 0, WAIT_S)
    assert books(emitter)[1] + sum(books(emitter)[4].values()) == 2_000
    assert "s1999" in surfaces(transport.records)


def test_a_directory_that_somebody_has_tidied_up_is_made_anew(start: Start, tmp_path: Path) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.WRITE_AHEAD)
    emit(emitter, 0, 10)
    assert eventually(lambda: books(emitter)[3] == 10, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: emitter.status().dispatched.diverted, WAIT_S)
    emit(emitter, 10, 20)
    assert eventually(lambda: books(emitter)[3] == 20, WAIT_S)
    shutil.rmtree(next(path for path in tmp_path.iterdir() if path.is_dir()))
    transport.reachable = True
    assert eventually(lambda: books(emitter)[2:4] == (0, 0), WAIT_S)
    emit(emitter, 20, 30)
    assert eventually(lambda: {"s20", "s29"} <= set(surfaces(transport.records)), WAIT_S)
    emitted, acknowledged, _, _, dropped = books(emitter)
    assert emitted == acknowledged + sum(dropped.values())


@pytest.mark.parametrize("durability", SPOOLING)
def test_a_full_disk_is_counted_and_events_go_out_from_memory(start: Start, durability: Durability) -> None:
    transport, disk = FlakyTransport(), FullDisk()
    emitter = start(transport, durability, disk=disk, schema_ids=(registry := KnownSchemaIds(up=False)))
    emit(emitter, 0, 200)
    assert eventually(lambda: downgrades(emitter) > 0, WAIT_S)
    assert books(emitter) == (200, 0, 200, 0, {})
    registry.up = True
    assert eventually(lambda: books(emitter) == (200, 200, 0, 0, {}), WAIT_S)
    disk.full = False
    emit(emitter, 200, 300)
    assert eventually(lambda: books(emitter) == (300, 300, 0, 0, {}), WAIT_S)
    assert sorted(surfaces(transport.records)) == sorted(named(0, 300))


def test_a_full_disk_and_no_broker_lose_what_a_close_finds_and_say_so(start: Start) -> None:
    emitter = start(FlakyTransport(reachable=False), Durability.SPOOL_ON_ERROR, disk=FullDisk())
    emit(emitter, 0, 50)
    topic = emitter.close(1.0).topics[0]
    assert (topic.emitted, topic.acknowledged, topic.queued, topic.spooled) == (50, 0, 0, 0)
    assert sum(topic.dropped.values()) == 50


def test_a_disk_that_hangs_stops_neither_those_who_emit_nor_what_is_sent(start: Start, tmp_path: Path) -> None:
    transport, disk = MemoryTransport(), HangingDisk()
    emitter = start(transport, Durability.WRITE_AHEAD, disk=disk)
    emit(emitter, 0, 1)
    assert eventually(lambda: books(emitter) == (1, 1, 0, 0, {}), WAIT_S)
    disk.well.clear()
    emit(emitter, 1, 25)
    assert eventually(disk.hanging.is_set, WAIT_S)
    emit(emitter, 25, 50)
    assert eventually(lambda: downgrades(emitter) == 1, WAIT_S)
    emit(emitter, 50, 100)
    assert eventually(lambda: books(emitter) == (100, 100, 0, 0, {}), WAIT_S), "also what hangs on its way to disk"
    disk.well.set()
    emitter.close(WAIT_S)
    assert not list(tmp_path.rglob("*.spool")), "nobody sends it again"
    assert sorted(surfaces(transport.records)) == sorted(named(0, 100))


def test_a_disk_that_is_full_for_real_is_a_downgrade(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from producers.config import Durability, SpoolLimits
from producers.memory_transport import MemoryTransport
from producers.spool.file_system import PosixFileSystem
from producers.spool.frames import SpoolRecord
from producers.spool.spool import SpoolStatus
from tests.producers.event_samples import SERVED, KnownSchemaIds
from tests.producers.programs import told_by
from tests.producers.spools import open_log, spooling_emitter
from tests.producers.spooling_emitters import books, downgrades
from tests.waiting import eventually

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
transport = MemoryTransport()
registry = KnownSchemaIds(up=False)
emitter = spooling_emitter(Path(sys.argv[1]), transport, Durability.SPOOL_ON_ERROR, schema_ids=registry)
for _ in range(5_000):
    assert emitter.emit(SERVED)
assert eventually(lambda: downgrades(emitter) > 0, 10.0)
registry.up = True
assert eventually(lambda: books(emitter) == (5_000, 5_000, 0, 0, {}), 20.0), emitter.status()
emitter.close(5.0)
print("well")
"""
    assert told_by(program, str(tmp_path)) == "well"


def test_what_fails_while_the_disk_does_not_work_is_lost_and_counted(start: Start) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR, disk=FullDisk())
    emit(emitter, 0, 100)
    assert eventually(lambda: transport.in_flight() == 100, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: books(emitter) == (100, 0, 0, 0, {"delivery_msg_timed_out": 100}), WAIT_S)


def test_the_disk_takes_no_more_bytes_at_once_than_its_bound(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "BYTES_MAX", 1_000)
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR)
    emit(emitter, 0, 500)
    assert eventually(lambda: transport.in_flight() == 500, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: books(emitter) == (500, 0, 0, 500, {}), WAIT_S)
    assert spool_of(emitter).counters.buffer_full > 0
