"""A real broker that is killed, or hangs, under emission; and processes that end while it is away. OUTAGE_S says for how long."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from uuid import UUID
from zlib import crc32

import pytest
from confluent_kafka import KafkaException

from deploy.provision import provision
from deploy.settings import TOPIC_PREFIX, Installation
from producers.config import Durability
from producers.emitter import Emitter
from producers.main import emitter_from_environment
from schemas.events import Interaction, ProducerCheckpoint, ProducerId, RecommendationServed
from schemas.topics import INTERACTIONS, PRODUCER_CHECKPOINTS, RECOMMENDATIONS
from stream_processors.audit.emitters import State, Steps, Stream, StreamReport, Told, judge
from tests.faults.stack import LocalStack, local_stack
from tests.producers.event_samples import CLICK, SERVED
from tests.producers.kafka_log import Log
from tests.producers.programs import started
from tests.waiting import eventually

pytestmark = pytest.mark.integration

OUTAGE_S = float(os.environ.get("TAILRACE_TEST_OUTAGE_S", "12"))
EVENTS_S = 400
LIMIT_S = 90.0

Outage = Callable[[LocalStack], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def faulted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack of this module's own: its broker dies."""
    with local_stack(tmp_path_factory.mktemp("outages") / "stack") as stack:
        yield stack


@pytest.fixture
def place(faulted: LocalStack, request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Topics of the test's own."""
    variables = {**faulted.variables, TOPIC_PREFIX: f"{crc32(request.node.name.encode())}."}
    provision(Installation.from_environment(variables))
    return variables


@dataclass
class Emission:
    """Emits at a steady rate, on a thread, until it is told to stop."""

    emitter: Emitter
    refused: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(10 / EVENTS_S):
            for _ in range(9):
                self.refused += not self.emitter.emit(SERVED)
            self.refused += not self.emitter.emit(CLICK)


def emitter_of(place: Mapping[str, str], durability: Durability, root: Path, **more: str) -> Emitter:
    spool = {} if durability is Durability.MEMORY else {"TAILRACE_SPOOL_DIR": str(root / durability)}
    return emitter_from_environment({**place, "TAILRACE_EMITTER_DURABILITY": durability, **spool, **more})


def arrived(place: Mapping[str, str], producer_id: ProducerId) -> dict[str, set[int]]:
    """The numbers in Kafka, by topic."""
    log = Log(place)
    return {
        topic.name: {event.producer_seq for event in log.read(kind, topic) if event.producer_id == producer_id}
        for kind, topic in ((RecommendationServed, RECOMMENDATIONS), (Interaction, INTERACTIONS))
    }


def last_checkpoint(place: Mapping[str, str], producer_id: ProducerId) -> ProducerCheckpoint:
    said: list[ProducerCheckpoint] = Log(place).read(ProducerCheckpoint, PRODUCER_CHECKPOINTS)
    ours = [one for one in said if (one.producer_id, one.topic) == (producer_id, "recommendations")]
    return max(ours, key=lambda one: one.occurred_at)


def is_settled(emitter: Emitter) -> bool:
    return all(topic.queued == 0 and topic.spooled == 0 for topic in emitter.status().topics)


@contextmanager
def killed(stack: LocalStack) -> Iterator[None]:
    with stack.stopped("kafka"):
        yield


@contextmanager
def hung(stack: LocalStack) -> Iterator[None]:
    with stack.hanging("kafka"):
        yield


@pytest.mark.parametrize("outage", [killed, hung])
def test_after_an_outage_each_event_is_in_kafka_or_counted(
    faulted: LocalStack, place: Mapping[str, str], tmp_path: Path, outage: Outage
) -> None:
    impatient = {"TAILRACE_KAFKA_OPTIONS": "message.timeout.ms=3000"}
    emissions = {
        durability: Emission(emitter_of(place, durability, tmp_path, **(impatient if durability is Durability.MEMORY else {})))
        for durability in Durability
    }
    with ExitStack() as running:
        for emission in emissions.values():
            running.enter_context(emission.running())
        pause(1.0)
        with outage(faulted):
            pause(OUTAGE_S)
        pause(1.0)
    for durability, emission in emissions.items():
        assert eventually(partial(is_settled, emission.emitter), LIMIT_S), emission.emitter.status()
        status = emission.emitter.close(10.0)
        found = arrived(place, status.producer_id)
        for topic in (topic for topic in status.topics if topic.emitted):
            lost = sum(topic.dropped.values())
            absent = topic.emitted - len(found[topic.topic])
            assert absent <= lost, (durability, topic, absent)
            assert topic.emitted == topic.acknowledged + lost
            assert (lost > 0) == (durability is Durability.MEMORY), (durability, topic)
        assert emission.refused == 0
        said = last_checkpoint(place, status.producer_id)
        assert (said.closed, said.emitted, said.acknowledged) == (True, status.topics[0].emitted, status.topics[0].acknowledged)


CHILD = """
import os, signal, threading, time
from producers.main import emitter_from_environment
from tests.producers.event_samples import SERVED

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
emitter = emitter_from_environment(os.environ)
print(emitter.producer_id, flush=True)

def tell(topic):
    print(time.monotonic(), topic.emitted, topic.acknowledged + topic.spooled, flush=True)

while not stop.wait(0.005):
    for _ in range(5):
        emitter.emit(SERVED)
    tell(emitter.status().topics[0])
tell(emitter.close(10.0).topics[0])
"""

CALM_S, KILLED_AFTER_S = 3.0, 4.0
"""A process is killed at the worst moment: what is on its way has not failed so far."""
LOST_S_MAX = {Durability.WRITE_AHEAD: 1.0, Durability.SPOOL_ON_ERROR: 6.0}
"""What a killed process loses was emitted within so long before, on a slow machine: what is not written yet; and with
`spool_on_error` what may be on its way for `message.timeout.ms`, 5 s.
"""
UNTOLD_S_MAX = 1.0 + LOST_S_MAX[Durability.SPOOL_ON_ERROR]
"""Checkpoints are made every second here, and are not written ahead."""


@dataclass(frozen=True)
class Progress:
    """What an emitter has told of itself at one moment. `safe` events are in Kafka or on disk."""

    at_s: float
    emitted: int
    safe: int


@dataclass(frozen=True)
class Life:
    """Of a child that has ended."""

    producer_id: ProducerId
    told: Sequence[Progress]

    @property
    def end(self) -> Progress:
        return self.told[-1]

    def emitted_before(self, seconds: float) -> int:
        """How many events were, so long before its end."""
        return max((each.emitted for each in self.told if each.at_s <= self.end.at_s - seconds), default=0)


@pytest.mark.parametrize("durability", [Durability.SPOOL_ON_ERROR, Durability.WRITE_AHEAD])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_without_a_broker_loses_no_more_than_its_mode_says(
    faulted: LocalStack, place: Mapping[str, str], tmp_path: Path, durability: Durability, end: signal.Signals
) -> None:
    often = {"TAILRACE_EMITTER_CHECKPOINT_INTERVAL_MS": "1000"}
    variables = {**place, **often, "TAILRACE_SPOOL_DIR": str(tmp_path), "TAILRACE_EMITTER_DURABILITY": durability}
    with started(CHILD, variables=variables) as child:
        life = lived(child, faulted, end)
    emitted, safe = life.end.emitted, life.end.safe
    heir = emitter_from_environment(variables)
    try:
        assert eventually(lambda: safe_numbers(place, life.producer_id, safe), LIMIT_S)
    finally:
        heir.close(30.0)
    found = arrived(place, life.producer_id)["recommendations"]
    said = last_checkpoint(place, life.producer_id)
    figures = f"{emitted} emitted, {len(found)} arrived, {said.next_seq} told of"
    print(f"{durability}, {end.name}: {figures}")  # noqa: T201 - for the report
    assert said.emitted == said.acknowledged + said.queued + said.spooled + sum(said.dropped.values())
    report = audited(said, found)
    if end is signal.SIGTERM:
        assert found == set(range(emitted))
        assert (said.closed, report.state) == (True, State.COMPLETE)
    else:
        assert safe >= life.emitted_before(LOST_S_MAX[durability]), figures
        assert said.next_seq >= life.emitted_before(UNTOLD_S_MAX), figures
        assert len(set(range(said.next_seq)) - found) <= said.queued, "of what it told only what was in memory is lost"
        assert (said.closed, report.state) == (False, State.UNKNOWN)
        assert report.missing + report.waiting == report.next_seq - len(found), "what is missing below the end is counted"


def audited(said: ProducerCheckpoint, found: set[int]) -> StreamReport:
    """What the auditor makes of it, long after."""
    last = Told(said.next_seq, said.dropped, said.queued, said.spooled, said.closed, said.occurred_at, heard_ms=0)
    below = sum(number < said.next_seq for number in found)
    stream = Stream(
        topic=said.topic,
        producer_id=UUID(said.producer_id),
        rows=len(found),
        seen=len(found),
        seen_end=max(found, default=-1) + 1,
        first_event_ms=0,
        last_event_ms=0,
        told=last,
        steps=Steps(below, complete_us=None, due_seq=said.next_seq, seen_below_due=below),
    )
    return judge(stream, settled_ms=1_000_000, patience_ms=1)


def safe_numbers(place: Mapping[str, str], producer_id: ProducerId, safe: int) -> bool:
    try:
        return len(arrived(place, producer_id)["recommendations"]) >= safe
    except KafkaException:  # the broker has just come back, and does not know all of its topics
        return False


def lived(child: "subprocess.Popen[str]", stack: LocalStack, end: signal.Signals) -> Life:
    """Let the child emit for a while, and with a broker that hangs; and end it."""
    assert child.stdout is not None, "it is a pipe"
    producer_id = ProducerId(child.stdout.readline().strip())
    lines = lines_within(child.stdout, CALM_S)
    with stack.hanging("kafka"):
        lines += lines_within(child.stdout, KILLED_AFTER_S if end is signal.SIGKILL else OUTAGE_S)
        child.send_signal(end)
        lines += list(child.stdout)
    whole = [line.split() for line in lines if line.endswith("\n")]  # a kill may have cut the very last
    return Life(producer_id, [Progress(float(at_s), int(emitted), int(safe)) for at_s, emitted, safe in whole])


def lines_within(output: IO[str], seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    lines: list[str] = []
    while time.monotonic() < deadline:
        lines.append(output.readline())
    return lines


def pause(seconds: float) -> None:
    """An outage lasts; there is nothing to wait for."""
    threading.Event().wait(seconds)
