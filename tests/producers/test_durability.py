"""What becomes of events while the broker, the registry or the disk is away, in each mode. The transport is the one in memory."""

import asyncio
import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from producers.config import Durability, SpoolLimits
from producers.emitter import Emitter
from producers.memory_transport import MemoryTransport
from producers.spool.file_system import PosixFileSystem
from producers.spool.frames import SpoolRecord
from producers.spool.spool import SpoolStatus
from producers.transport import OutboundRecord
from tests.producers.event_samples import SERVED, KnownSchemaIds, checkpoints_of, served_of
from tests.producers.flaky_transport import FlakyTransport
from tests.producers.programs import told_by
from tests.producers.spools import open_log, spooling_emitter
from tests.waiting import eventually

WAIT_S = 10.0
SPOOLING = (Durability.SPOOL_ON_ERROR, Durability.WRITE_AHEAD)


Start = Callable[..., Emitter]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[Emitter] = []

    def begin(transport: MemoryTransport, durability: Durability, **options: Any) -> Emitter:
        made.append(spooling_emitter(tmp_path, transport, durability, **options))
        return made[-1]

    yield begin
    for emitter in made:
        emitter.close(0.0)


def emit(emitter: Emitter, first: int, end: int) -> None:
    for number in range(first, end):
        assert emitter.emit(replace(SERVED, surface=f"s{number}"))


def surfaces(records: list[OutboundRecord]) -> list[str]:
    return [event.surface for event in served_of(records)]


def named(first: int, end: int) -> list[str]:
    return [f"s{number}" for number in range(first, end)]


def books(emitter: Emitter) -> tuple[int, int, int, int, dict[str, int]]:
    topic = emitter.status().topics[0]
    return topic.emitted, topic.acknowledged, topic.queued, topic.spooled, dict(topic.dropped)


@pytest.mark.parametrize("durability", SPOOLING)
def test_with_a_broker_that_is_there_everything_goes_straight_out(start: Start, tmp_path: Path, durability: Durability) -> None:
    transport = MemoryTransport()
    emitter = start(transport, durability)
    emit(emitter, 0, 1)
    assert eventually(lambda: books(emitter) == (1, 1, 0, 0, {}), WAIT_S)  # the registry has answered
    emit(emitter, 1, 300)
    emitter.close(5.0)
    assert books(emitter) == (300, 300, 0, 0, {})
    assert (spool_of(emitter).counters.faults, emitter.status().counters.faults) == (0, 0)
    assert surfaces(transport.records) == named(0, 300)
    assert {record.headers for record in transport.records[1:]} == {()}
    assert list(tmp_path.rglob("*.spool")) == []


@pytest.mark.parametrize("durability", SPOOLING)
def test_what_fails_and_what_follows_is_on_disk_and_comes_late_marked_and_whole(start: Start, durability: Durability) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, durability)
    emit(emitter, 0, 100)
    assert eventually(lambda: transport.in_flight() == 100, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: emitter.status().dispatched.diverted, WAIT_S)
    emit(emitter, 100, 200)
    assert eventually(lambda: books(emitter) == (200, 0, 0, 200, {}), WAIT_S)
    transport.reachable = True
    assert eventually(lambda: books(emitter) == (200, 200, 0, 0, {}), WAIT_S)
    assert sorted(surfaces(transport.records)) == sorted(named(0, 200))
    served = [record for record in transport.records if record.topic == "tailrace.recommendations"]
    assert {record.headers for record in served} == {(("spooled", b"1"),)}
    assert {event.producer_id for event in served_of(transport.records)} == {emitter.producer_id}
    assert sorted(event.producer_seq for event in served_of(transport.records)) == list(range(200))


def test_what_waits_on_disk_is_sent_in_order(start: Start) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR, schema_ids=(registry := KnownSchemaIds(up=False)))
    emit(emitter, 0, 5_000)
    assert eventually(lambda: books(emitter) == (5_000, 0, 0, 5_000, {}), WAIT_S)
    registry.up = transport.reachable = True
    assert eventually(lambda: books(emitter) == (5_000, 5_000, 0, 0, {}), WAIT_S)
    assert surfaces(transport.records) == named(0, 5_000)


@pytest.mark.parametrize("durability", SPOOLING)
def test_a_close_without_a_broker_loses_nothing_and_the_next_emitter_sends_it(start: Start, durability: Durability) -> None:
    first = start(FlakyTransport(reachable=False), durability)
    emit(first, 0, 500)
    status = first.close(2.0)
    assert (status.topics[0].queued, status.topics[0].spooled, dict(status.topics[0].dropped)) == (0, 500, {})
    transport = MemoryTransport()
    second = start(transport, durability)
    assert eventually(lambda: sorted(surfaces(transport.records)) == sorted(named(0, 500)), WAIT_S)
    assert {event.producer_id for event in served_of(transport.records)} == {first.producer_id}
    assert eventually(lambda: len(checkpoints_of(transport.records)) == 1, WAIT_S)
    [last] = checkpoints_of(transport.records)
    assert (last.producer_id, last.closed, last.emitted, last.spooled) == (first.producer_id, True, 500, 500)
    assert books(second) == (0, 0, 0, 0, {})


def test_what_only_a_newer_release_can_send_is_left_to_it(start: Start, tmp_path: Path) -> None:
    newer = open_log(tmp_path)
    record = SpoolRecord("recommendations", 1, b"unit", b"datum")
    newer.append([record._replace(version=99), record], held=False)
    newer.close()
    transport = MemoryTransport()
    emitter = start(transport, Durability.SPOOL_ON_ERROR)
    assert eventually(lambda: spool_of(emitter).log.left == 1, WAIT_S)
    emitter.close(5.0)
    [left] = tmp_path.rglob("*.spool")
    assert not left.with_suffix(".cursor").exists()
    assert {bytes(record.value[5:]) for record in transport.records} <= {b"datum"}


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


class FullDisk(PosixFileSystem):
    full = True

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().create(path)


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


def test_a_disk_that_hangs_stops_neither_those_who_emit_nor_what_is_sent(start: Start) -> None:
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
    assert eventually(lambda: set(named(25, 100)) <= set(surfaces(transport.records)), WAIT_S)
    disk.well.set()
    assert eventually(lambda: books(emitter) == (100, 100, 0, 0, {}), WAIT_S)


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
from tests.producers.test_durability import books, downgrades
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


def test_emitting_from_a_coroutine_needs_no_await_and_does_not_hold_up_the_loop(start: Start) -> None:
    transport = MemoryTransport()
    emitter = start(transport, Durability.SPOOL_ON_ERROR)

    async def answer(number: int) -> bool:
        await asyncio.sleep(0)
        return emitter.emit(replace(SERVED, surface=f"s{number}"))

    async def serve() -> list[bool]:
        return list(await asyncio.gather(*[answer(number) for number in range(500)]))

    assert asyncio.run(serve()) == [True] * 500
    emitter.close(5.0)
    assert sorted(surfaces(transport.records)) == sorted(named(0, 500))


def downgrades(emitter: Emitter) -> int:
    return spool_of(emitter).downgrades


def spool_of(emitter: Emitter) -> SpoolStatus:
    spool = emitter.status().spool
    assert spool is not None, "the emitter has one"
    return spool
