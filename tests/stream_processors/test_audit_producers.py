"""The auditor on the producers of events, on the real broker, registry and warehouse."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from producers.main import emitter_from_environment
from schemas.codec import Codec
from schemas.events import Interaction, Micros, ProducerCheckpoint, ProducerId, Stamp
from schemas.topics import INTERACTIONS, PRODUCER_CHECKPOINTS
from stream_processors.audit.clickhouse_reader import ClickHouseReader
from stream_processors.audit.emitters import State, Steps
from stream_processors.audit.spans import Span
from stream_processors.audit.warehouse_view import Times, WarehouseView
from tests.stream_processors.auditing import LIMIT_S, audited, forget_offsets, producers, run, topic_of, total
from tests.stream_processors.warehouse_fixture import Bench, interaction
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Emission:
    """A producer's events and checkpoints, written as it would, but for what the test leaves out."""

    bench: Bench
    producer_id: ProducerId

    def events(self, seqs: Iterable[int]) -> None:
        codec, schema_id = Codec(Interaction), self.bench.schema_id("Interaction")
        events = [(replace(interaction(seq), producer_id=self.producer_id), seq) for seq in seqs]
        values = [codec.encode(event, schema_id, Stamp(event.event_id, self.producer_id, seq)) for event, seq in events]
        self.bench.produce(values)

    def checkpoint(self, at: int, next_seq: int, dropped: dict[str, int] | None = None, *, closed: bool = False) -> None:
        said = ProducerCheckpoint(
            producer_id=self.producer_id,
            topic=INTERACTIONS.name,
            occurred_at=Micros(at),
            next_seq=next_seq,
            emitted=next_seq,
            acknowledged=next_seq - sum((dropped or {}).values()),
            queued=0,
            spooled=0,
            dropped=dropped or {},
            counts=(),
            closed=closed,
        )
        value = Codec(ProducerCheckpoint).encode(said, self.bench.schema_id("ProducerCheckpoint"))
        self.bench.produce([value], self.bench.topic(PRODUCER_CHECKPOINTS.name))


def emission(bench: Bench, number: int = 1) -> Emission:
    return Emission(bench, ProducerId(str(UUID(int=number))))


def test_a_real_emitter_that_has_closed_is_complete(bench: Bench) -> None:
    emitter = emitter_from_environment(bench.environment)
    for number in range(200):
        assert emitter.emit(replace(interaction(number), event_id="", producer_id=ProducerId("")))  # type: ignore[arg-type]
    assert emitter.close(LIMIT_S).undelivered == 0
    bench.drain()

    report = audited(bench)

    [stream] = report.streams
    assert (stream.state, stream.next_seq, stream.missing, stream.rows) == (State.COMPLETE, 200, 0, 200)
    assert str(stream.producer_id) == emitter.producer_id
    assert report.sound


def test_a_number_that_never_came_is_missing_from_its_producer(bench: Bench) -> None:
    lossy, honest = emission(bench, 1), emission(bench, 2)
    lossy.events([*range(40), *range(42, 100)])
    lossy.checkpoint(7, 100, {"queue_full": 5}, closed=True)
    honest.events(range(97))
    honest.checkpoint(7, 100, {"encode": 2, "delivery__MSG_TIMED_OUT": 1, "queue_full": 1}, closed=True)
    bench.drain()

    report = audited(bench)

    found = producers(report)
    assert (found[1].state, found[1].missing, found[1].absent) == (State.MISSING, 2, (Span(40, 42),))
    assert (found[2].state, found[2].missing) == (State.COMPLETE, 0)
    assert (topic_of(report).unexplained, report.sound) == (2, False)
    done = run(bench)
    assert done.returncode == 1
    assert f"producer {UUID(int=1)} (closed): 2 of 100; absent: 40–41" in done.stdout


def test_a_missing_number_may_be_in_a_dead_letter_and_a_copy_does_not_stand_in_for_it(bench: Bench) -> None:
    producer = emission(bench)
    producer.events([0, 1, 1, 3])
    bench.produce([b"\x01unreadable"])
    producer.checkpoint(7, 4, closed=True)
    bench.drain()

    report = audited(bench)

    assert (producers(report)[1].missing, producers(report)[1].repeated) == (1, 1)
    assert (topic_of(report).unexplained, report.sound) == (0, True)


def test_a_live_producer_is_complete_up_to_its_last_checkpoint_without_a_number_awaited(bench: Bench) -> None:
    producer = emission(bench)
    producer.events([*range(20), *range(21, 30)])
    for at, next_seq in ((1_000_000, 10), (2_000_000, 20), (3_000_000, 30), (4_000_000, 30)):
        producer.checkpoint(at, next_seq)
    bench.drain()
    awaiting = audited(bench)
    producer.events([20])
    bench.drain()
    whole = audited(bench)

    assert (producers(awaiting)[1].state, producers(awaiting)[1].awaited) == (State.LIVE, 1)
    assert topic_of(awaiting).complete_up_to_us == 2_000_000
    assert awaiting.sound
    assert (producers(whole)[1].awaited, topic_of(whole).complete_up_to_us) == (0, 4_000_000)


def test_a_producer_that_fell_silent_is_unknown_and_what_it_lacks_is_named(bench: Bench) -> None:
    quiet, gappy = emission(bench, 1), emission(bench, 2)
    quiet.events(range(10))
    quiet.checkpoint(1, 8)
    gappy.events([0, 1, 3])
    bench.drain()
    impatient = {"TAILRACE_AUDIT_PATIENCE_S": "1"}

    assert eventually(lambda: producers(audited(bench, **impatient))[2].silent, LIMIT_S)
    found = producers(audited(bench, **impatient))

    assert (found[1].state, found[1].missing) == (State.UNKNOWN, 0)
    assert (found[2].state, found[2].missing, found[2].absent) == (State.UNKNOWN, 1, (Span(2, 3),))
    assert producers(audited(bench))[2].state is State.LIVE


def test_nobody_is_judged_by_events_that_still_wait_in_kafka(bench: Bench) -> None:
    """The checkpoints are in and say 100; the events are in Kafka and nobody has read them. Not missing: not settled."""
    producer = emission(bench)
    producer.events(range(100))
    producer.checkpoint(7, 100, closed=True)
    bench.drain()
    bench.command_sql("TRUNCATE TABLE interactions")
    forget_offsets(bench)

    report = audited(bench)

    assert total(report, "pending") == 100
    assert (topic_of(report).missing, topic_of(report).unexplained, report.sound) == (0, 0, True)


def test_numbers_are_due_once_a_checkpoint_named_them_a_patience_ago(bench: Bench) -> None:
    producer = emission(bench)
    producer.events([*range(20), *range(21, 30)])
    for at, next_seq in ((1_000_000, 10), (2_000_000, 25), (3_000_000, 30)):
        producer.checkpoint(at, next_seq)
    bench.drain()
    asked = "SELECT toUnixTimestamp64Milli(_kafka_time) FROM producer_checkpoints ORDER BY _offset"
    heard_ms = [int(time) for (time,) in bench.rows(asked)]
    steps = [steps_of(bench, producer, due_ms) for due_ms in (heard_ms[0] - 1, *heard_ms)]

    assert [(step.due_seq, step.seen_below_due) for step in steps] == [(0, 0), (10, 10), (25, 24), (30, 29)]
    assert {(step.seen_below_next, step.complete_us) for step in steps} == {(29, 1_000_000)}


def steps_of(bench: Bench, producer: Emission, due_ms: int) -> Steps:
    """As an audit would see them that holds what came at `due_ms` for due."""
    reader = ClickHouseReader(bench.environment["TAILRACE_WAREHOUSE_URL"], {})
    try:
        later_ms = WarehouseView(reader).now_ms() + 1_000
        producer_id = UUID(producer.producer_id)
        times = Times(later_ms, later_ms, due_ms)
        return WarehouseView(reader).steps("interactions", INTERACTIONS.name, [producer_id], times)[producer_id]
    finally:
        reader.close()
