"""The auditor on the real broker, registry and warehouse."""

import json
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.ports import free_port
from producers.main import emitter_from_environment
from schemas.codec import Codec
from schemas.events import Interaction, Micros, ProducerCheckpoint, ProducerId, Stamp
from schemas.topics import INTERACTIONS, PRODUCER_CHECKPOINTS
from stream_processors.audit.clickhouse_reader import ClickHouseReader
from stream_processors.audit.config import AuditConfig
from stream_processors.audit.emitters import State, Steps, StreamReport, TopicReport
from stream_processors.audit.errors import Shifted
from stream_processors.audit.kafka_log import READ_THROUGH_OFFSETS, KafkaLog
from stream_processors.audit.main import audit
from stream_processors.audit.partitions import PartitionReport, absent
from stream_processors.audit.report import Report
from stream_processors.audit.spans import Span
from stream_processors.audit.warehouse_view import Times, WarehouseView
from stream_processors.warehouse.records import Place
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench, interaction, interactions, metric
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMIT_S = 60
NOT_MERGED = (
    "ALTER TABLE {} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"
)


def audited(bench: Bench, **variables: str) -> Report:
    return audit(AuditConfig.from_environment({**bench.environment, **variables}))


def run(bench: Bench, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`tailrace audit` as a user runs it."""
    return subprocess.run(
        bench.command("audit", *arguments),
        env={**bench.environment, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def of(report: Report, topic: str, partition: int) -> PartitionReport:
    """The partition of the topic that Kafka has now."""
    [found] = [here for here in report.partitions if (here.topic, here.partition) == (topic, partition) and here.log]
    return found


def total(report: Report, what: str) -> int:
    return sum(getattr(partition, what).count for partition in report.partitions)


def produce_to(bench: Bench, partition: int, values: Iterable[bytes], topic: str = INTERACTIONS.name) -> None:
    producer = Producer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    for value in values:
        producer.produce(bench.topic(topic), value, key=b"k", partition=partition)
    assert producer.flush(FLUSH_LIMIT_S) == 0


def admin(bench: Bench) -> AdminClient:
    return AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})


def expire(bench: Bench, partition: int, before: int) -> None:
    client = admin(bench)
    [answer] = client.delete_records([TopicPartition(bench.topic(), partition, before)]).values()
    answer.result(FLUSH_LIMIT_S)


def record_gap(bench: Bench, topic_id: UUID, partition: int, reason: str, span: tuple[int, int | None]) -> None:
    first, end = span
    values = f"'{bench.topic()}', '{topic_id}', {partition}, '{reason}', {first}, {'NULL' if end is None else end}, 'by a test'"
    columns = "topic, _topic_id, _partition, reason, first_offset, end_offset, detail"
    bench.command_sql(f"INSERT INTO ingest_gaps ({columns}) VALUES ({values})")


def insert_again(bench: Bench, where: str, **replaced: str) -> None:
    """Copy a row past the fence, as a broken sink would."""
    columns = column_names(bench)
    chosen = ", ".join(replaced.get(name, name) for name in columns)
    bench.command_sql(f"INSERT INTO interactions ({', '.join(columns)}) SELECT {chosen} FROM interactions WHERE {where} LIMIT 1")


def column_names(bench: Bench) -> list[str]:
    asked = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'interactions'"
    return [str(name) for (name,) in bench.rows(f"{asked} AND default_kind != 'EPHEMERAL' ORDER BY position")]


def test_what_was_brought_in_whole_is_sound_in_few_lines(bench: Bench) -> None:
    bench.produce(interactions(bench, 500))
    bench.drain()

    done = run(bench)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "500 rows" in done.stdout
    assert "sound" in done.stdout
    assert len(done.stdout.splitlines()) <= 6
    found = json.loads(run(bench, "--json", "--topic", INTERACTIONS.name).stdout)
    assert found["sound"] is True
    assert {partition["topic"] for partition in found["partitions"]} == {bench.topic()}
    assert sum(partition["rows"] for partition in found["partitions"]) == 500


def test_records_that_nobody_has_claimed_are_pending_and_no_loss(bench: Bench) -> None:
    bench.produce(interactions(bench, 100))
    before = audited(bench)
    bench.drain()
    bench.produce(interactions(bench, 30, first=100))

    assert (total(before, "pending"), before.sound) == (100, True)
    after = audited(bench)
    assert (total(after, "pending"), total(after, "missing"), after.sound) == (30, 0, True)


def test_rows_that_the_warehouse_lost_are_found_with_their_offsets(bench: Bench) -> None:
    produce_to(bench, 2, interactions(bench, 300))
    bench.drain()
    bench.command_sql("DELETE FROM interactions WHERE _offset IN (7, 8, 9, 250, 299)")

    report = audited(bench)

    assert not report.sound
    assert of(report, bench.topic(), 2).missing.shown == (Span(7, 10), Span(250, 251), Span(299, 300))
    done = run(bench)
    assert done.returncode == 1
    assert f"{bench.topic()}[2]: 5 records are in Kafka only: 7–9, 250, 299" in done.stdout


def test_a_table_that_lost_everything_is_missing_everything(bench: Bench) -> None:
    bench.produce(interactions(bench, 200))
    bench.drain()
    bench.command_sql("TRUNCATE TABLE interactions")

    assert total(audited(bench), "missing") == 200


def test_a_coordinate_that_stands_twice_is_found_though_final_would_heal_it(bench: Bench) -> None:
    bench.command_sql(NOT_MERGED.format("interactions"))
    bench.produce(interactions(bench, 100))
    bench.drain()
    insert_again(bench, "producer_seq = 42")

    report = audited(bench)

    assert sum(partition.copies for partition in report.partitions) == 1
    assert not report.sound
    assert bench.rows("SELECT count() FROM interactions FINAL") == [(100,)]
    assert "1 rows beyond the first at their coordinates" in run(bench).stdout


def test_markers_and_aborted_records_are_holes(bench: Bench) -> None:
    values = interactions(bench, 300)
    options = {"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "transactional.id": bench.prefix}
    producer = Producer(options)
    producer.init_transactions(FLUSH_LIMIT_S)
    for number in range(30):
        producer.begin_transaction()
        for value in values[number * 10 : number * 10 + 10]:
            producer.produce(bench.topic(), value, key=b"k", partition=1)
        producer.flush(FLUSH_LIMIT_S)
        if number % 3 == 2:
            producer.abort_transaction(FLUSH_LIMIT_S)
        else:
            producer.commit_transaction(FLUSH_LIMIT_S)
    bench.drain()

    report = of(audited(bench), bench.topic(), 1)

    assert report.rows == 200
    assert report.holes.count + report.pending.count == 100 + 30
    assert report.oldest_pending_ms is None, "behind the last record there are holes only"
    assert report.sound
    bench.command_sql("DELETE FROM interactions WHERE producer_seq = 15")
    assert of(audited(bench), bench.topic(), 1).missing.shown == (Span(16, 17),)


def test_what_expired_before_it_was_read_is_unaccounted_until_it_is_recorded(bench: Bench) -> None:
    produce_to(bench, 0, interactions(bench, 50))
    bench.drain()
    produce_to(bench, 0, interactions(bench, 50, first=50))
    expire(bench, 0, 80)

    silent = of(audited(bench), bench.topic(), 0)
    record_gap(bench, silent.topic_id, 0, "expired", (50, 80))
    told = of(audited(bench), bench.topic(), 0)

    assert (silent.unaccounted.shown, silent.sound) == ((Span(50, 80),), False)
    assert (told.unaccounted.count, told.recorded.shown, told.sound) == (0, (Span(50, 80),), True)
    assert (told.pending.shown, told.rows) == ((Span(80, 100),), 50)
    assert "30 offsets, recorded in ingest_gaps: 50–79" in run(bench).stdout


def test_a_topic_made_anew_is_two_topics_and_the_former_ones_end_must_be_recorded(bench: Bench) -> None:
    produce_to(bench, 3, interactions(bench, 40))
    bench.drain()
    former = of(audited(bench), bench.topic(), 3).topic_id
    make_anew(bench)
    produce_to(bench, 3, interactions(bench, 5))

    silent = audited(bench)
    record_gap(bench, former, 3, "recreated", (40, None))
    told = audited(bench)

    assert not silent.sound
    [gone] = [partition for partition in silent.partitions if partition.topic_id == former]
    assert (gone.rows, gone.log, gone.tail_unknown) == (40, None, True)
    new = of(silent, bench.topic(), 3)
    assert (new.rows, new.pending.count, new.log and new.log.committed) == (0, 5, None)
    assert told.sound
    assert [(gap.reason, gap.first, gap.end) for gap in told.gaps] == [("recreated", 40, None)]


def make_anew(bench: Bench) -> None:
    client = admin(bench)
    [gone] = client.delete_topics([bench.topic()]).values()
    gone.result(FLUSH_LIMIT_S)
    assert eventually(lambda: bench.topic() not in client.list_topics(timeout=LIMIT_S).topics, LIMIT_S)
    made = NewTopic(bench.topic(), num_partitions=4, config={"message.timestamp.type": "LogAppendTime"})
    [there] = client.create_topics([made]).values()
    there.result(FLUSH_LIMIT_S)


def test_a_dead_letter_is_accounted_for_and_may_be_repaired_but_not_be_a_row_by_itself(bench: Bench) -> None:
    bench.command_sql(NOT_MERGED.format("interactions"))
    good = interactions(bench, 20)
    produce_to(bench, 0, [*good[:10], b"\x01poison", b"\x01more", *good[10:]])
    bench.drain()
    dead = of(audited(bench), bench.topic(), 0)
    insert_again(bench, "producer_seq = 3", _offset="10", _run="'repaired'")
    repaired = of(audited(bench), bench.topic(), 0)
    insert_again(bench, "producer_seq = 4", _offset="11")
    conflict = of(audited(bench), bench.topic(), 0)

    assert (dead.rows, dead.dead_letters, dead.repaired, dead.sound) == (20, 2, 0, True)
    assert (repaired.rows, repaired.dead_letters, repaired.repaired, repaired.sound) == (21, 2, 1, True)
    assert (conflict.conflicts, conflict.copies, conflict.sound) == (1, 0, False)


def test_a_reader_seeks_over_what_lies_far_and_says_where_the_log_has_moved_on(bench: Bench) -> None:
    count = 2 * READ_THROUGH_OFFSETS + 100
    produce_to(bench, 0, (b"x" for _ in range(count)))
    log = KafkaLog(bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "look", {})
    try:
        reader = log.read(Place(bench.topic(), 0))
        found = [reader.next_record(offset) for offset in (3, 5, count - 10, count - 1, count)]
        assert [record and record.offset for record in found] == [3, 5, count - 10, count - 1, None]
        expire(bench, 0, 50)
        with pytest.raises(Shifted, match=r"no longer has the offset 10"):
            log.read(Place(bench.topic(), 0)).next_record(10)
    finally:
        log.close()


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


def producers(report: Report) -> dict[int, StreamReport]:
    return {stream.producer_id.int: stream for stream in report.streams}


def topic_of(report: Report) -> TopicReport:
    [found] = [topic for topic in report.topics if topic.topic == INTERACTIONS.name]
    return found


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


def test_a_running_sink_cannot_make_a_record_look_lost(bench: Bench, tmp_path: Path) -> None:
    small = {"TAILRACE_SINK_BATCH_ROWS_MAX": "500", "TAILRACE_SINK_BATCH_AGE_MS_MAX": "50"}
    with (tmp_path / "log").open("wb") as log:
        sink = subprocess.Popen(bench.command("sink"), env={**bench.environment, **small}, stderr=log, stdout=log)
    try:
        verdicts = []
        for part in range(8):
            bench.produce(interactions(bench, 3_000, first=part * 3_000))
            report = audited(bench)
            verdicts.append((report.sound, total(report, "missing"), total(report, "unaccounted")))
        assert set(verdicts) == {(True, 0, 0)}
        assert eventually(lambda: bench.counts() == (24_000, 24_000), LIMIT_S)
    finally:
        sink.terminate()
        assert sink.wait(LIMIT_S) == 0


@pytest.mark.parametrize("every", [1, 3, 70_001])
def test_the_engines_answers_agree_with_counting_one_by_one_over_many_blocks(bench: Bench, every: int) -> None:
    """Offsets over three blocks and a distance, two days; absent are every so many, and all that lies between the stretches."""
    stretches = [range(5, 70_000), range(70_000, 131_072), range(5_000_000, 5_000_100)]
    offsets = [offset for stretch in stretches for offset in stretch if every == 1 or offset % every]
    topic_id = UUID(int=9)
    chosen = " OR ".join(f"number BETWEEN {stretch.start} AND {stretch.stop - 1}" for stretch in stretches)
    written = {"_topic_id": f"toUUID('{topic_id}')", "_partition": "1", "_offset": "number", "_run": "'live'"}
    written["_kafka_time"] = "fromUnixTimestamp64Milli(1795424805626 + number * 1000)"
    written |= {"_framed": "0", "_owned": "0", "_free": "0", "_schema_id": "1"}
    bench.command_sql(
        f"INSERT INTO interactions ({', '.join(written)}) SELECT {', '.join(written.values())} FROM numbers(5000100) "
        f"WHERE ({chosen}) AND ({every} = 1 OR number % {every} != 0) SETTINGS max_partitions_per_insert_block = 1000"
    )
    reader = ClickHouseReader(bench.environment["TAILRACE_WAREHOUSE_URL"], {})
    try:
        view = WarehouseView(reader)
        blocks = view.blocks("interactions", bench.topic())[topic_id, 1]
        found = list(absent(blocks, 5_000_200, partial(view.absent_offsets, "interactions", topic_id, 1)))
    finally:
        reader.close()

    assert sum(block.present for block in blocks) == len(offsets)
    assert found == [Span(left + 1, right) for left, right in pairwise([-1, *offsets, 5_000_200]) if right > left + 1]


def forget_offsets(bench: Bench) -> None:
    client = admin(bench)
    [answer] = client.delete_consumer_groups([f"{bench.prefix}warehouse"]).values()
    answer.result(FLUSH_LIMIT_S)


def test_watching_tells_what_changes_and_serves_figures(bench: Bench, tmp_path: Path) -> None:
    bench.produce(interactions(bench, 100))
    bench.drain()
    port = free_port()
    variables = {**bench.environment, "TAILRACE_METRICS_PORT": str(port)}
    with (tmp_path / "out").open("wb") as out:
        watching = subprocess.Popen(bench.command("audit", "--watch", "1"), env=variables, stdout=out, stderr=out)
    try:
        assert eventually(lambda: metric(port, "tailrace_audit_sound") == 1, LIMIT_S)
        bench.command_sql("DELETE FROM interactions WHERE producer_seq = 5")
        assert eventually(lambda: metric(port, "tailrace_audit_sound") == 0, LIMIT_S)
        name = f'tailrace_audit_offsets{{topic="{bench.topic()}",verdict="missing"}}'
        assert metric(port, name) == 1
        assert eventually(lambda: "+ MISSING" in (tmp_path / "out").read_text(), LIMIT_S)
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(LIMIT_S) == 1
    finally:
        watching.kill()
        watching.wait(LIMIT_S)


def test_parts_that_are_not_there_and_wrong_usage_are_named(bench: Bench) -> None:
    for name, value in {
        "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "TAILRACE_WAREHOUSE_READ_URL": "http://tailrace:x@127.0.0.1:1/none",
    }.items():
        done = run(bench, **{name: value})
        assert (done.returncode, "127.0.0.1:1" in done.stderr, "Traceback" in done.stderr) == (3, True, False)
    assert run(bench, "--topic", "alerts").returncode == 2
    refused = run(bench, TAILRACE_AUDIT_PATIENCE_S="no")
    assert (refused.returncode, "TAILRACE_AUDIT_PATIENCE_S" in refused.stderr) == (2, True)
