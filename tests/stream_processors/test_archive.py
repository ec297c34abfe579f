"""The archiver on the real broker and registry, as a user runs it, into a directory."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.cli import main
from deploy.local.ports import free_port
from schemas.topics import INTERACTIONS, TOPICS
from schemas.wire import frame
from stream_processors.archive.config import ArchiveLocation
from stream_processors.archive.container import ArchivedMessage
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.ledger import partitions
from stream_processors.archive.main import open_archive
from stream_processors.archive.object_store import ObjectStore
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.ownership import fence
from stream_processors.warehouse.records import LIVE, Message, OffsetRanges, Place
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench, interactions, metric
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMIT_S = 60
KILLS = int(os.environ.get("TAILRACE_ARCHIVE_KILLS", "6"))
"""Kills of archivers in one test; a long run sets more."""
SEED = int(os.environ.get("TAILRACE_ARCHIVE_SEED", "7"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/archive"


def archive(bench: Bench, *arguments: str, code: int = 0, **variables: str) -> dict[str, Any]:
    """`tailrace archive … --json`, within this process: starting Python takes longer than most of what is asked here."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    done = CliRunner().invoke(main, ["archive", *arguments, "--json"], env={**bench.environment, **variables})
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert done.exit_code == code, done.output
    answer: dict[str, Any] = json.loads(done.stdout) if code < 2 else {"said": done.stderr}
    return answer


def kafkas_own(bench: Bench, topic: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    """Every record of a topic, by partition and offset."""
    consumer = Consumer({
        "bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"],
        "group.id": "test",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    })  # fmt: skip
    numbers = [number for known in TOPICS if bench.topic(known.name) == topic for number in range(known.partitions)]
    consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
    found, ended = {}, 0
    while ended < len(numbers):
        message = consumer.poll(LIMIT_S)
        assert message is not None
        if (error := message.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended += 1
            continue
        found[message.partition(), message.offset()] = told(message)  # type: ignore[arg-type]
    consumer.close()
    return found  # type: ignore[return-value]


def archived(bench: Bench, url: str, topic: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    """The same from the archive; each offset once."""
    reader = open_archive(ArchiveLocation(url, {}))
    topic_id = topic_id_of(bench, topic)
    messages = [
        message
        for known in TOPICS
        if bench.topic(known.name) == topic
        for number in range(known.partitions)
        for message in reader.messages(topic_id, number, 0, 1 << 62)
    ]
    found = {(message.partition(), message.offset()): told(message) for message in messages}
    assert len(found) == len(messages), "each offset once"
    return found


def told(message: Message | ArchivedMessage) -> tuple[Any, ...]:
    return (message.timestamp()[1], message.key(), message.value(), message.headers())


def topic_id_of(bench: Bench, topic: str) -> UUID:
    log = KafkaLog(bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "test", {})
    try:
        return log.topics([topic])[topic].topic_id
    finally:
        log.close()


def test_everything_that_kafka_has_is_archived_once_and_a_second_run_finds_nothing_to_do(bench: Bench, url: str) -> None:
    bench.produce(interactions(bench, 3000))

    first = archive(bench, "run", url, TAILRACE_ARCHIVE_ROWS_MAX="200")
    again = archive(bench, "run", url)

    assert (first["rows"], again["rows"], again["entries"]) == (3000, 0, 0)
    assert archived(bench, url, bench.topic()) == kafkas_own(bench, bench.topic())
    checked = archive(bench, "check", url, "--deep")
    assert checked["sound"]
    assert sum(each["rows"] for each in checked["partitions"]) == 3000
    assert archive(bench, "list", url)["partitions"] == checked["partitions"]


def test_keys_headers_and_every_kind_of_poison_come_back_bit_for_bit(bench: Bench, url: str) -> None:
    good = interactions(bench, 60)
    served_id = bench.schema_id("RecommendationServed")
    poison = [None, b"", b"\x01abc", b"\x00\x00", frame(0x0FFFFF, b"x"), good[0][:-3], good[0] + b"!", frame(served_id, b"x")]
    producer = Producer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    for number, value in enumerate([*good[:30], *poison, *good[30:]]):
        headers: Any = [("trace", f"{number}".encode()), ("empty", b""), ("none", None)] if number % 3 else None
        producer.produce(bench.topic(), value, key=None if number % 5 == 0 else f"u{number}", headers=headers, partition=1)
    assert producer.flush(FLUSH_LIMIT_S) == 0

    found = archive(bench, "run", url)

    assert (found["rows"], found["raw_rows"]) == (68, len(poison))
    assert archived(bench, url, bench.topic()) == kafkas_own(bench, bench.topic())
    assert archive(bench, "check", url, "--deep")["sound"]


def test_what_transactions_leave_in_the_log_is_archived_as_holes(bench: Bench, url: str) -> None:
    producer = Producer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "transactional.id": bench.prefix})
    producer.init_transactions(FLUSH_LIMIT_S)
    for number, value in enumerate(interactions(bench, 6)):
        producer.begin_transaction()
        producer.produce(bench.topic(), value, partition=0)
        producer.flush(FLUSH_LIMIT_S)
        producer.abort_transaction() if number % 2 else producer.commit_transaction()

    archive(bench, "run", url)

    topic_id = topic_id_of(bench, bench.topic())
    reader = open_archive(ArchiveLocation(url, {}))
    assert reader.ranges(topic_id, 0) == [(0, 12)]
    assert [message.offset() for message in reader.messages(topic_id, 0, 0, 12)] == [0, 4, 8]
    assert list(reader.holes(topic_id, 0, 0, 12)) == [(1, 4), (5, 8), (9, 12)]


def test_archivers_that_are_killed_at_any_point_and_two_at_once_archive_each_offset_once(
    bench: Bench, url: str, tmp_path: Path
) -> None:
    draw = random.Random(SEED)
    small = {"TAILRACE_ARCHIVE_ROWS_MAX": "150", "TAILRACE_ARCHIVE_AGE_S_MAX": "1"}
    bench.produce(interactions(bench, 4000))
    with (tmp_path / "log").open("ab") as log:
        running: list[subprocess.Popen[bytes]] = []

        def start() -> subprocess.Popen[bytes]:
            command = bench.command("archive", "run", "--follow", url)
            return subprocess.Popen(command, env={**bench.environment, **small}, stdout=log, stderr=log)

        try:
            running += [start(), start()]
            for kill in range(KILLS):
                began = entries(url)
                bench.produce(interactions(bench, 500, first=4000 + 500 * kill))
                assert eventually(lambda began=began: entries(url) > began, LIMIT_S), "an archiver gets on"  # type: ignore[misc]
                time.sleep(draw.random() * 0.3)  # anywhere in what they do
                victim = running.pop(draw.randrange(len(running)))
                victim.kill()
                victim.wait(LIMIT_S)
                running.append(start())
        finally:
            for process in running:
                process.kill()
                process.wait(LIMIT_S)

    archive(bench, "run", url)

    kafka = kafkas_own(bench, bench.topic())
    assert len(kafka) == 4000 + 500 * KILLS
    assert archived(bench, url, bench.topic()) == kafka
    assert archive(bench, "check", url, "--deep", "--sweep")["sound"]
    assert sum(each["left_over"] for each in archive(bench, "check", url)["partitions"]) == 0


def entries(url: str) -> int:
    return len(list(Path(url.removeprefix("file://")).rglob("*.json")))


def delete_below(bench: Bench, offsets: Mapping[int, int]) -> None:
    """As retention does it."""
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    asked = [TopicPartition(bench.topic(), partition, offset) for partition, offset in offsets.items()]
    for answer in admin.delete_records(asked).values():
        answer.result(FLUSH_LIMIT_S)


def test_what_had_expired_before_it_was_archived_is_said_and_the_rest_follows(bench: Bench, url: str) -> None:
    bench.produce(interactions(bench, 400), partitioner="murmur2")
    delete_below(bench, {0: 10})

    found = archive(bench, "run", url)

    assert (found["lost_offsets"], found["rows"]) == (10, 390)
    topic_id = topic_id_of(bench, bench.topic())
    [(first, _)] = open_archive(ArchiveLocation(url, {})).ranges(topic_id, 0)
    assert first == 10
    assert archive(bench, "check", url, "--deep")["sound"]


def test_what_kafka_has_let_go_of_since_is_still_in_the_archive(bench: Bench, url: str) -> None:
    bench.produce(interactions(bench, 400))
    archive(bench, "run", url)
    before = archived(bench, url, bench.topic())
    delete_below(bench, dict.fromkeys(range(INTERACTIONS.partitions), -1))
    bench.produce(interactions(bench, 100, first=400))

    assert archive(bench, "run", url)["rows"] == 100

    after = archived(bench, url, bench.topic())
    assert len(after) == 500
    assert before.items() <= after.items()


def test_a_topic_that_is_made_anew_has_a_chain_of_its_own(bench: Bench, url: str) -> None:
    bench.produce(interactions(bench, 40))
    archive(bench, "run", url)
    former = topic_id_of(bench, bench.topic())
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    admin.delete_topics([bench.topic()])[bench.topic()].result(FLUSH_LIMIT_S)
    anew = NewTopic(bench.topic(), INTERACTIONS.partitions, 1, config=dict(INTERACTIONS.config))
    assert eventually(lambda: made(admin, anew), FLUSH_LIMIT_S)
    bench.produce(interactions(bench, 7))

    assert archive(bench, "run", url)["rows"] == 7

    reader = open_archive(ArchiveLocation(url, {}))
    assert len(archived(bench, url, bench.topic())) == 7
    assert sum(1 for number in range(4) for _ in reader.messages(former, number, 0, 100)) == 40


def test_the_archive_knows_which_offset_a_time_stood_for(bench: Bench, url: str) -> None:
    for first in (0, 30, 60):
        bench.produce(interactions(bench, 30, first=first))
    archive(bench, "run", url, TAILRACE_ARCHIVE_ROWS_MAX="7")
    reader, topic_id = open_archive(ArchiveLocation(url, {})), topic_id_of(bench, bench.topic())

    times = {place: told[0] for place, told in kafkas_own(bench, bench.topic()).items() if place[0] == 1}
    for at in (0, *sorted(set(times.values())), max(times.values()) + 1):
        expected = min((offset for (_, offset), time_ms in times.items() if time_ms >= at), default=None)
        assert reader.offset_at(topic_id, 1, at) == expected


def made(admin: AdminClient, topic: NewTopic) -> bool:
    """The broker takes a moment to forget the former one."""
    future = admin.create_topics([topic])[topic.topic]
    return future.exception(FLUSH_LIMIT_S) is None


def test_following_archives_what_comes_and_tells_its_metrics(bench: Bench, url: str, tmp_path: Path) -> None:
    port = free_port()
    variables = {"TAILRACE_ARCHIVE_AGE_S_MAX": "1", "TAILRACE_METRICS_PORT": str(port), "TAILRACE_ARCHIVE_URL": url}
    with (tmp_path / "log").open("ab") as log:
        command = bench.command("archive", "run", "--follow", "--topic", "interactions")
        following = subprocess.Popen(command, env={**bench.environment, **variables}, stdout=log, stderr=log)
    try:
        bench.produce(interactions(bench, 50))
        name = f'tailrace_archive_records_total{{topic="{bench.topic()}"}}'
        assert eventually(lambda: metric(port, name) == 50, LIMIT_S), (tmp_path / "log").read_text()
        following.send_signal(signal.SIGTERM)
        assert following.wait(LIMIT_S) == 0
    finally:
        following.kill()
        following.wait(LIMIT_S)
    assert all(folder.startswith(bench.topic()) for folder in partitions(ObjectStore(url, {})))


def test_a_part_that_does_not_answer_exits_with_3_and_no_archive_with_2(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / bench.topic()).write_text("a file where the folder of the topic should be")
    assert "the archive at" in archive(bench, "run", f"file://{tmp_path}", code=3)["said"]
    nowhere = archive(bench, "run", f"file://{tmp_path}", code=3, TAILRACE_REGISTRY_URL="http://127.0.0.1:1")
    assert "the schema registry" in nowhere["said"]
    assert "TAILRACE_ARCHIVE_URL is not set" in archive(bench, "check", code=2)["said"]
    assert "is no archive" in archive(bench, "check", "nope://x", code=2)["said"]


@pytest.fixture
def writer(bench: Bench) -> Iterator[ClickHouseWriter]:
    opened = ClickHouseWriter(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1_000_000)
    yield opened
    opened.close()


def test_a_file_goes_into_a_table_under_a_fence_and_gives_the_rows_that_the_sink_gave(
    bench: Bench, url: str, writer: ClickHouseWriter
) -> None:
    bench.produce(interactions(bench, 2000))
    archive(bench, "run", url)
    bench.drain()
    columns = "* EXCEPT (_ingested_at), _topic_id, _partition, _offset, _kafka_time, _schema_id, _run"
    question = f"SELECT {columns} FROM interactions ORDER BY _partition, _offset"
    live = bench.rows(question)
    bench.command_sql("TRUNCATE TABLE interactions")
    reader, topic_id = open_archive(ArchiveLocation(url, {})), topic_id_of(bench, bench.topic())

    for number in range(INTERACTIONS.partitions):
        owner = fence(writer, topic_id, Place(bench.topic(), number))
        for shelf in reader.shelves(topic_id, number, 0, 1 << 62):
            for span in ((0, 100), (100, 1 << 62)):
                spliced = reader.open(shelf).splice(owner, LIVE.run, span, OffsetRanges())
                if spliced.rows:
                    writer.insert("interactions", spliced.columns, spliced.container, "test")

    assert bench.rows(question) == live
    assert bench.counts() == (2000, 2000)


def test_a_damaged_file_is_a_clear_error_and_no_byte_of_it_is_used(bench: Bench, url: str) -> None:
    bench.produce(interactions(bench, 40))
    archive(bench, "run", url)
    topic_id = topic_id_of(bench, bench.topic())
    reader = open_archive(ArchiveLocation(url, {}))
    [shelf, *_] = [shelf for number in range(4) for shelf in reader.shelves(topic_id, number, 0, 1000)]
    path = Path(url.removeprefix("file://")) / shelf.path
    content = path.read_bytes()

    for damage, damaged in (("altered", content[:-9] + bytes(9)), ("truncated", content[:-9]), ("missing", None)):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(ArchiveDamaged, match=f"{shelf.file.name} .*{damage}"):
            reader.open(shelf)
        with pytest.raises(ArchiveDamaged, match=damage):
            reader.read(shelf)
        assert [problem["path"] for problem in archive(bench, "check", url, "--deep", code=1)["problems"]] == [shelf.path]
