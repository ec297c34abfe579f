"""What a host that embeds an emitter can rely on. The transport is the one in memory; Kafka's: test_producers_round_trip.py."""

import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from producers import lanes
from producers.config import EmitterLimits
from producers.emitter import Emitter
from producers.memory_transport import MemoryTransport
from schemas.events import ArmCount, EventId, ExperimentId, Micros
from tests.producers.event_samples import CLICK, MALFORMED, SERVED, KnownSchemaIds, checkpoints_of, clicks_of, served_of
from tests.waiting import eventually

WAIT_S = 5.0

MakeEmitter = Callable[..., Emitter]


@pytest.fixture
def make_emitter() -> Iterator[MakeEmitter]:
    made: list[Emitter] = []
    numbers = itertools.count()

    def make(transport: MemoryTransport, schema_ids: KnownSchemaIds | None = None, **limits: Any) -> Emitter:
        emitter = Emitter(
            transport,
            schema_ids or KnownSchemaIds(),
            now_us=lambda: Micros(1_800_000_000_000_000),
            new_id=lambda: f"00000000-0000-7000-8000-{next(numbers):012}",
            limits=EmitterLimits(**limits),
        )
        made.append(emitter)
        return emitter

    yield make
    for emitter in made:
        emitter.close(0.0)


def test_events_arrive_in_order_with_ids_and_numbers_without_gaps(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport)
    assert all(emitter.emit(replace(SERVED, surface=f"s{n}")) for n in range(200))
    emitter.close(5.0)
    served = served_of(transport.records)
    assert [(event.surface, event.producer_seq) for event in served] == [(f"s{n}", n) for n in range(200)]
    assert {event.producer_id for event in served} == {emitter.producer_id}
    assert len({event.event_id for event in served}) == 200


def test_an_event_that_has_an_id_keeps_it(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport)
    event_id = EventId("11111111-2222-5333-8444-555555555555")
    emitter.emit(replace(SERVED, event_id=event_id))
    emitter.close(5.0)
    assert [event.event_id for event in served_of(transport.records)] == [event_id]


def test_every_topic_is_numbered_by_itself_and_keyed_by_unit(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport)
    for _ in range(3):
        emitter.emit(SERVED)
        emitter.emit(CLICK)
    status = emitter.close(5.0)
    assert {topic.topic: topic.accepted for topic in status.topics} == {
        "recommendations": 3,
        "interactions": 3,
        "shadow-rankings": 0,
    }
    events = [record for record in transport.records if record.topic != "tailrace.producer-checkpoints"]
    assert {record.topic for record in events} == {"tailrace.recommendations", "tailrace.interactions"}
    assert {record.key for record in events} == {b"unit-1"}


def test_threads_that_emit_at_once_share_one_sequence(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [emitter.emit(SERVED) for _ in range(250)], range(8)))
    emitter.close(10.0)
    assert [event.producer_seq for event in served_of(transport.records)] == list(range(2000))


def test_a_full_queue_loses_the_event_counts_it_and_uses_no_number(make_emitter: MakeEmitter) -> None:
    transport, registry = MemoryTransport(), KnownSchemaIds(up=False)
    emitter = make_emitter(transport, registry, queue_events_max=10)
    assert [emitter.emit(SERVED) for _ in range(13)] == [True] * 10 + [False] * 3
    registry.up = True
    status = emitter.close(5.0)
    assert [event.producer_seq for event in served_of(transport.records)] == list(range(10))
    assert (status.topics[0].accepted, status.topics[0].dropped) == (10, {"queue_full": 3})


def test_what_is_no_event_is_counted_and_raises_nothing(make_emitter: MakeEmitter) -> None:
    emitter = make_emitter(MemoryTransport())
    assert emitter.emit("not an event") is False  # type: ignore[arg-type]
    assert emitter.status().strays == {"wrong_event": 1}


def test_an_event_that_cannot_be_encoded_is_counted_and_leaves_a_gap(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport)
    for event in (SERVED, MALFORMED, replace(SERVED, assignments=None), SERVED):  # type: ignore[arg-type]
        emitter.emit(event)
    status = emitter.close(5.0)
    assert [event.producer_seq for event in served_of(transport.records)] == [0, 3]
    assert (status.topics[0].dropped, status.undelivered) == ({"encode": 2}, 2)


def test_a_registry_that_is_away_costs_only_room_in_the_queue(make_emitter: MakeEmitter) -> None:
    transport, registry = MemoryTransport(), KnownSchemaIds(up=False)
    emitter = make_emitter(transport, registry)
    assert emitter.emit(SERVED)
    assert eventually(lambda: emitter.status().lookup_failures >= 2, WAIT_S)
    assert (emitter.status().queue_events, transport.records) == (1, [])
    registry.up = True
    assert eventually(lambda: len(served_of(transport.records)) == 1, WAIT_S)


def test_a_topic_without_a_schema_waits_and_holds_up_no_other(make_emitter: MakeEmitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AT_A_STAND_EVENTS_MAX", 100)
    transport, registry = MemoryTransport(), KnownSchemaIds()
    registry.without.add("recommendations")
    emitter = make_emitter(transport, registry)
    for number in range(150):
        emitter.emit(replace(SERVED, surface=f"s{number}"))
        emitter.emit(CLICK)
    assert eventually(lambda: len(clicks_of(transport.records)) == 150, WAIT_S)
    assert eventually(lambda: emitter.status().topics[0].dropped == {"no_schema": 50}, WAIT_S)
    registry.without.clear()
    assert eventually(lambda: emitter.status().topics[0].acknowledged == 100, WAIT_S)
    arrived = [event.producer_seq for event in served_of(transport.records)]
    assert arrived == sorted(set(arrived)), "in order"


def test_checkpoints_without_a_schema_hold_up_no_event(make_emitter: MakeEmitter) -> None:
    transport, registry = MemoryTransport(), KnownSchemaIds()
    registry.without.add("producer-checkpoints")
    emitter = make_emitter(transport, registry, checkpoint_interval_s=0.001)
    for _ in range(100):
        made = emitter.status().counters.checkpoints
        assert emitter.emit(SERVED)
        assert eventually(lambda: emitter.status().undelivered == 0, WAIT_S)
        assert eventually(partial(checkpointed_since, emitter, made), WAIT_S)


def checkpointed_since(emitter: Emitter, made: int) -> bool:
    return emitter.status().counters.checkpoints > made


def test_a_process_that_emits_and_closes_at_once_loses_nothing(make_emitter: MakeEmitter) -> None:
    transport, registry = MemoryTransport(), KnownSchemaIds(up=False)
    emitter = make_emitter(transport, registry)
    emitter.emit(SERVED)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(emitter.close, 5.0)
        assert eventually(lambda: emitter.emit(SERVED) is False, WAIT_S)
        registry.up = True
        assert closing.result().undelivered == 0


def test_emitting_does_not_wait_for_a_broker_that_takes_nothing(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport(records_max=5, reachable=False)
    emitter = make_emitter(transport, queue_events_max=100)
    began = time.monotonic()
    accepted = sum(emitter.emit(SERVED) for _ in range(2_000))
    assert time.monotonic() - began < 1.0
    assert 100 <= accepted <= 106
    assert eventually(lambda: emitter.status().dispatched.transport_full > 0, WAIT_S)


def test_a_broker_that_comes_back_gets_what_waited(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport(records_max=5, reachable=False)
    emitter = make_emitter(transport)
    for _ in range(50):
        emitter.emit(SERVED)
    assert eventually(lambda: emitter.status().dispatched.transport_full > 0, WAIT_S)
    transport.reachable = True
    assert eventually(lambda: emitter.status().undelivered == 0, WAIT_S)
    assert [event.producer_seq for event in served_of(transport.records)] == list(range(50))


def test_close_says_what_was_not_delivered_within_its_time(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport(records_max=5, reachable=False)
    emitter = make_emitter(transport)
    for _ in range(20):
        emitter.emit(SERVED)
    began = time.monotonic()
    status = emitter.close(0.5)
    assert time.monotonic() - began < 2.0
    assert status.undelivered == 20
    assert status.topics[0].dropped == {"delivery_purge_queue": 5, "unsent_at_close": 15}


def test_closing_again_says_the_same_and_later_events_are_refused(make_emitter: MakeEmitter) -> None:
    emitter = make_emitter(MemoryTransport())
    emitter.emit(SERVED)
    first = emitter.close(5.0)
    assert emitter.close(5.0) == first
    assert emitter.emit(SERVED) is False
    assert emitter.status().topics[0].dropped == {"closed": 1}


def test_checkpoints_come_at_intervals_and_at_close(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport, checkpoint_interval_s=0.02)
    emitter.emit(SERVED)
    assert eventually(lambda: len(checkpoints_of(transport.records)) >= 3, WAIT_S)
    emitter.emit(MALFORMED)
    emitter.emit(replace(SERVED, assignments=()))
    emitter.close(5.0)
    *running, last = checkpoints_of(transport.records)
    assert not any(checkpoint.closed for checkpoint in running)
    assert (last.producer_id, last.topic, last.next_seq, last.closed) == (emitter.producer_id, "recommendations", 3, True)
    assert (last.dropped, last.spooled) == ({"encode": 1}, 0)
    assert last.counts == (ArmCount(ExperimentId("ab-1"), "control", 1),)


def test_only_topics_that_were_used_are_checkpointed(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport)
    emitter.emit(CLICK)
    emitter.close(5.0)
    assert [(checkpoint.topic, checkpoint.next_seq) for checkpoint in checkpoints_of(transport.records)] == [("interactions", 1)]


def test_bulk_emission_that_waits_for_room_loses_nothing(make_emitter: MakeEmitter) -> None:
    transport = MemoryTransport()
    emitter = make_emitter(transport, queue_events_max=50)
    for _ in range(40):
        assert emitter.wait_for_room(5.0)
        assert all(emitter.emit(SERVED) for _ in range(25))
    assert emitter.close(10.0).undelivered == 0
    assert len(served_of(transport.records)) == 1_000


def test_waiting_for_room_ends_at_its_timeout(make_emitter: MakeEmitter) -> None:
    emitter = make_emitter(MemoryTransport(), KnownSchemaIds(up=False), queue_events_max=4)
    for _ in range(4):
        emitter.emit(SERVED)
    assert emitter.wait_for_room(0.02) is False


def test_losses_are_logged_once_an_interval_not_once_an_event(
    make_emitter: MakeEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    emitter = make_emitter(MemoryTransport())
    with caplog.at_level(logging.WARNING, logger="producers"):
        for _ in range(500):
            emitter.emit(MALFORMED)
        emitter.close(5.0)
    lines = [record.getMessage() for record in caplog.records if "were lost" in record.getMessage()]
    assert 1 <= len(lines) <= 2
    assert all("encode" in line and "recommendations" in line for line in lines)


def test_events_of_a_process_that_never_closes_are_sent_at_its_exit() -> None:
    program = """
import sys
from producers.emitter import Emitter
from producers.memory_transport import MemoryTransport
from schemas.events import Micros
from tests.producers.event_samples import SERVED, KnownSchemaIds

class Telling(MemoryTransport):
    def close(self):
        print("sent", len(self.records))

emitter = Emitter(Telling(), KnownSchemaIds(), now_us=lambda: Micros(0), new_id=lambda: "0190c1de-0000-7000-8000-000000000000")
for _ in range(10):
    emitter.emit(SERVED)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert ran.stdout == "sent 11\n"
