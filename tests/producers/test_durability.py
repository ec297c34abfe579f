"""What becomes of events while the broker or the registry is away, in each mode. The transport is the one in memory."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from producers import lanes
from producers.config import Durability
from producers.kafka_transport import KafkaTransport
from producers.memory_transport import MemoryTransport
from producers.spool import inbox
from producers.spool.frames import SpoolRecord
from schemas.topics import Topic
from tests.producers.event_samples import CLICK, SERVED, KnownSchemaIds, checkpoints_of, clicks_of, served_of
from tests.producers.fatal_errors import break_down
from tests.producers.flaky_transport import FlakyTransport
from tests.producers.spooling_emitters import SPOOLING, WAIT_S, Start, books, emit, emitters, named, spool_of, surfaces
from tests.producers.spools import open_log
from tests.waiting import eventually

CLICKS = "tailrace.interactions"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emitters(tmp_path) as begin:
        yield begin


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
    monkeypatch.setattr(lanes, "AT_A_STAND_EVENTS_MAX", 10)
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


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("durability", SPOOLING)
def test_a_topic_that_takes_nothing_waits_on_disk_and_holds_up_no_other(
    start: Start, durability: Durability, *, offered: bool
) -> None:
    transport = FlakyTransport()
    if offered:
        transport.refused.add(CLICKS)
    else:
        transport.failing[CLICKS] = "topic_authorization_failed"
    emitter = start(transport, durability)
    for number in range(200):
        assert emitter.emit(CLICK)
        emit(emitter, number, number + 1)
    assert eventually(lambda: books(emitter) == (200, 200, 0, 0, {}), WAIT_S)
    assert eventually(lambda: emitter.status().topics[1].spooled == 200, WAIT_S)
    dispatched = emitter.status().dispatched
    assert (dispatched.diversions, dispatched.transport_renewals) == (0, 0)
    transport.refused.clear()
    transport.failing.clear()
    assert eventually(lambda: emitter.status().undelivered == 0, WAIT_S)
    assert sorted(click.producer_seq for click in clicks_of(transport.records)) == list(range(200))


def test_without_a_disk_what_a_topic_does_not_take_is_lost_and_the_others_go_on(start: Start) -> None:
    transport = FlakyTransport()
    transport.refused.add(CLICKS)
    emitter = start(transport, Durability.MEMORY)
    for number in range(20):
        assert emitter.emit(CLICK)
        emit(emitter, number, number + 1)
    assert eventually(lambda: books(emitter) == (20, 20, 0, 0, {}), WAIT_S)
    assert eventually(lambda: emitter.status().topics[1].dropped == {"refused_unknown_topic": 20}, WAIT_S)


@pytest.mark.parametrize("durability", SPOOLING)
def test_records_that_always_time_out_do_not_keep_all_others_from_being_tried(start: Start, durability: Durability) -> None:
    transport = FlakyTransport()
    transport.failing[CLICKS] = "msg_timed_out"  # as those of a partition without a leader do
    emitter = start(transport, durability)
    for _ in range(20):
        assert emitter.emit(CLICK)
    assert eventually(lambda: emitter.status().dispatched.diverted and emitter.status().topics[1].spooled == 20, WAIT_S)
    assert eventually(lambda: emitter.emit(SERVED) and books(emitter)[1] > 0, WAIT_S)
    transport.failing.clear()
    assert eventually(lambda: emitter.status().undelivered == 0, WAIT_S)


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
