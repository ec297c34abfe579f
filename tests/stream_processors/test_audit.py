"""The auditor on the real broker, registry and warehouse."""

import json
import signal
import subprocess
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from deploy.local.ports import free_port
from schemas.topics import INTERACTIONS
from stream_processors.audit.clickhouse_reader import ClickHouseReader
from stream_processors.audit.errors import Shifted
from stream_processors.audit.kafka_log import READ_THROUGH_OFFSETS, KafkaLog
from stream_processors.audit.partitions import PartitionReport, absent
from stream_processors.audit.report import Report
from stream_processors.audit.spans import Span
from stream_processors.audit.warehouse_view import WarehouseView
from stream_processors.warehouse.records import Place
from tests.stream_processors.auditing import LIMIT_S, admin, audited, run, total
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench, interactions, metric
from tests.waiting import eventually

pytestmark = pytest.mark.integration

NOT_MERGED = (
    "ALTER TABLE {} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"
)


def of(report: Report, topic: str, partition: int) -> PartitionReport:
    """The partition of the topic that Kafka has now."""
    [found] = [here for here in report.partitions if (here.topic, here.partition) == (topic, partition) and here.log]
    return found


def produce_to(bench: Bench, partition: int, values: Iterable[bytes], topic: str = INTERACTIONS.name) -> None:
    producer = Producer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    for value in values:
        producer.produce(bench.topic(topic), value, key=b"k", partition=partition)
    assert producer.flush(FLUSH_LIMIT_S) == 0


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
