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

from producers import dispatch
from producers.config import Durability, SpoolLimits
from producers.emitter import Emitter
from producers.kafka_transport import KafkaTransport
from producers.memory_transport import MemoryTransport
from producers.spool import inbox
from producers.spool.file_system import PosixFileSystem
from producers.spool.frames import SpoolRecord
from producers.spool.spool import SpoolStatus
from producers.transport import OutboundRecord, Transport
from schemas.topics import Topic
from tests.producers.event_samples import CLICK, SERVED, KnownSchemaIds, checkpoints_of, clicks_of, served_of
from tests.producers.fatal_errors import break_down
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

    def begin(transport: Transport, durability: Durability, **options: Any) -> Emitter:
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


@pytest.mark.parametrize("durability", Durability)
def test_a_client_that_breaks_down_costs_no_event(start: Start, durability: Durability) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, durability)
    emit(emitter, 0, 300)
    assert eventually(lambda: transport.in_flight() == 300, WAIT_S)
    transport.break_down()
    assert eventually(lambda: emitter.status().dispatched.transport_renewals == 1, WAIT_S)
    emit(emitter, 300, 400)
    transport.reachable = True
    assert eventually(lambda: books(emitter) == (400, 400, 0, 0, {}), WAIT_S)
    arrived = surfaces(transport.records)
    assert sorted(arrived) == sorted(named(0, 400))
    assert durability is not Durability.MEMORY or arrived == named(0, 400), "in order"


def test_what_was_on_disk_when_a_client_broke_down_is_sent_by_the_next(start: Start) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR, schema_ids=(registry := KnownSchemaIds(up=False)))
    emit(emitter, 0, 300)
    assert eventually(lambda: books(emitter) == (300, 0, 0, 300, {}), WAIT_S)
    registry.up = True
    assert eventually(lambda: transport.in_flight() == 300, WAIT_S)
    transport.break_down()
    transport.reachable = True
    assert eventually(lambda: books(emitter) == (300, 300, 0, 0, {}), WAIT_S)
    assert emitter.status().dispatched.transport_renewals == 1


def test_a_fatal_error_of_kafkas_client_costs_nothing_that_is_on_disk(start: Start) -> None:
    transport = KafkaTransport("127.0.0.1:1", {"message.timeout.ms": "500"})
    emitter = start(transport, Durability.SPOOL_ON_ERROR, schema_ids=(registry := KnownSchemaIds(up=False)))
    emit(emitter, 0, 300)
    assert eventually(lambda: books(emitter) == (300, 0, 0, 300, {}), WAIT_S)
    break_down(transport)
    registry.up = True
    assert eventually(lambda: emitter.status().dispatched.transport_renewals == 1, WAIT_S)
    emit(emitter, 300, 400)
    assert eventually(lambda: books(emitter) == (400, 0, 0, 400, {}), WAIT_S)
    assert emitter.status().counters.faults == 0


@pytest.mark.parametrize(("events", "events_max"), [(500, 20), (30_000, inbox.EVENTS_MAX)])
@pytest.mark.parametrize("close", [True, False])
def test_more_may_fail_at_once_than_the_disk_takes_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, events: int, events_max: int, *, close: bool
) -> None:
    monkeypatch.setattr(inbox, "EVENTS_MAX", events_max)
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR)
    for first in range(0, events, 500):
        assert emitter.wait_for_room(WAIT_S)
        emit(emitter, first, first + 500)
    assert eventually(lambda: transport.in_flight() == events, WAIT_S)
    if close:
        emitter.close(6.0 + events / 2_000)  # half of it for the broker
    else:
        transport.fail_pending()
    assert eventually(lambda: books(emitter) == (events, 0, 0, events, {}), WAIT_S), books(emitter)
    assert spool_of(emitter).counters.buffer_full > 0 or events_max == 20_000, "which a quick disk does not let come to it"


def test_the_disk_takes_no_more_bytes_at_once_than_its_bound(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "BYTES_MAX", 1_000)
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR)
    emit(emitter, 0, 500)
    assert eventually(lambda: transport.in_flight() == 500, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: books(emitter) == (500, 0, 0, 500, {}), WAIT_S)
    assert spool_of(emitter).counters.buffer_full > 0


def test_what_fails_while_the_disk_does_not_work_is_lost_and_counted(start: Start) -> None:
    transport = FlakyTransport(reachable=False)
    emitter = start(transport, Durability.SPOOL_ON_ERROR, disk=FullDisk())
    emit(emitter, 0, 100)
    assert eventually(lambda: transport.in_flight() == 100, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: books(emitter) == (100, 0, 0, 0, {"delivery_msg_timed_out": 100}), WAIT_S)


@pytest.mark.parametrize("durability", SPOOLING)
def test_a_topic_without_a_schema_goes_to_disk_and_holds_up_no_other(start: Start, durability: Durability) -> None:
    transport, registry = FlakyTransport(), KnownSchemaIds()
    registry.without.add("interactions")
    emitter = start(transport, durability, schema_ids=registry)
    for number in range(200):
        emit(emitter, number, number + 1)
        assert emitter.emit(CLICK)
    assert eventually(lambda: books(emitter) == (200, 200, 0, 0, {}), WAIT_S)
    assert eventually(lambda: emitter.status().topics[1].spooled == 200, WAIT_S)
    transport.reachable = False
    emit(emitter, 200, 300)
    assert eventually(lambda: transport.in_flight() == 100, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: books(emitter) == (300, 200, 0, 100, {}), WAIT_S)
    transport.reachable = True
    assert eventually(lambda: books(emitter) == (300, 300, 0, 0, {}), WAIT_S), "also from disk, behind what cannot go"
    registry.without.clear()
    assert eventually(lambda: emitter.status().undelivered == 0, WAIT_S)
    clicks = clicks_of(transport.records)
    assert [click.producer_seq for click in clicks] == list(range(200))


def test_more_of_a_topic_without_a_schema_than_may_be_in_hand_does_not_keep_the_broker_away(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "AT_A_STAND_EVENTS_MAX", 10)
    transport, registry = FlakyTransport(), KnownSchemaIds()
    registry.without.add("interactions")
    emitter = start(transport, Durability.SPOOL_ON_ERROR, schema_ids=registry)
    for _ in range(50):
        assert emitter.emit(CLICK)
    assert eventually(lambda: emitter.status().topics[1].spooled == 50, WAIT_S)
    transport.reachable = False
    emit(emitter, 0, 20)
    assert eventually(lambda: transport.in_flight() == 20, WAIT_S)
    transport.fail_pending()
    assert eventually(lambda: emitter.status().dispatched.diverted, WAIT_S)
    transport.reachable = True
    assert eventually(lambda: emitter.emit(SERVED) and not emitter.status().dispatched.diverted, WAIT_S)
    registry.without.clear()
    assert eventually(lambda: emitter.status().undelivered == 0, WAIT_S)
    assert len(clicks_of(transport.records)) == 50


class HangingRegistry(KnownSchemaIds):
    """Answers no question before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def lookup(self, topic: Topic, version: int | None = None) -> int:
        self.let_go.wait(3 * WAIT_S)
        return super().lookup(topic, version)


@pytest.mark.parametrize("durability", SPOOLING)
def test_a_close_before_the_registry_has_answered_loses_nothing(start: Start, durability: Durability) -> None:
    registry = HangingRegistry()
    emitter = start(MemoryTransport(), durability, schema_ids=registry)
    emit(emitter, 0, 100)
    emitter.close(4.0)
    registry.let_go.set()
    assert books(emitter) == (100, 0, 0, 100, {})


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
