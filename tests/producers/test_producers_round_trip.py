"""The emitter on a real broker and registry."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from producers.emitter import Emitter
from producers.main import emitter_from_environment
from schemas.events import Interaction, ProducerCheckpoint, RecommendationServed, UnitId
from schemas.topics import INTERACTIONS, PRODUCER_CHECKPOINTS, RECOMMENDATIONS
from tests.producers.event_samples import CLICK, SERVED
from tests.producers.kafka_log import Log

SERVED_EVENTS = 5_000
CLICKS = 1_000


def emit_in_bulk(emitter: Emitter) -> None:
    for number in range(SERVED_EVENTS):
        if number % 500 == 0:
            assert emitter.wait_for_room(30.0)
        assert emitter.emit(replace(SERVED, unit_id=UnitId(f"unit-{number % 97}")))
        if number % (SERVED_EVENTS // CLICKS) == 0:
            assert emitter.emit(CLICK)


def await_delivery(emitter: Emitter, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while emitter.status().undelivered and time.monotonic() < deadline:
        threading.Event().wait(0.02)


@pytest.mark.integration
def test_everything_emitted_arrives_once_and_the_checkpoint_says_so(installation: Mapping[str, str]) -> None:
    emitter = emitter_from_environment({**installation, "TAILRACE_EMITTER_CHECKPOINT_INTERVAL_MS": "10"})
    emit_in_bulk(emitter)
    await_delivery(emitter, timeout_s=30.0)
    status = emitter.close(30.0)
    assert status.undelivered == 0
    log = Log(installation)
    served = [event for event in log.read(RecommendationServed, RECOMMENDATIONS) if event.producer_id == emitter.producer_id]
    clicks = [event for event in log.read(Interaction, INTERACTIONS) if event.producer_id == emitter.producer_id]
    assert Counter(event.producer_seq for event in served) == Counter(range(SERVED_EVENTS))
    assert Counter(event.producer_seq for event in clicks) == Counter(range(CLICKS))
    assert len({event.event_id for event in served}) == SERVED_EVENTS
    checkpoints = [
        checkpoint
        for checkpoint in log.read(ProducerCheckpoint, PRODUCER_CHECKPOINTS)
        if checkpoint.producer_id == emitter.producer_id
    ]
    last = {checkpoint.topic: checkpoint for checkpoint in checkpoints}
    assert {topic: checkpoint.next_seq for topic, checkpoint in last.items()} == {
        "recommendations": SERVED_EVENTS,
        "interactions": CLICKS,
    }
    assert all(checkpoint.closed and not checkpoint.dropped for checkpoint in last.values())
    assert [(count.arm, count.count) for count in last["recommendations"].counts] == [("control", SERVED_EVENTS)]
    assert len(checkpoints) > len(last)


@pytest.mark.integration
def test_a_broker_that_is_not_there_costs_no_time_and_close_says_what_was_lost(installation: Mapping[str, str]) -> None:
    emitter = emitter_from_environment({**installation, "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    began = time.monotonic()
    assert all(emitter.emit(SERVED) for _ in range(2_000))
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    status = emitter.close(1.0)
    assert time.monotonic() - began < 3.0
    assert status.undelivered == 2_000
    assert sum(status.topics[0].dropped.values()) == 2_000
