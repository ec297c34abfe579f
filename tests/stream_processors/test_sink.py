"""The sink on the real broker, registry and warehouse."""

import json
import signal
import subprocess
import time
from pathlib import Path
from uuid import UUID

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.schema_registry import Schema

from deploy.local.ports import free_port
from schemas.contracts import contract
from schemas.envelope import Source
from schemas.topics import INTERACTIONS, subject
from schemas.wire import HEADER_BYTES, frame
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.config import SinkConfig
from stream_processors.warehouse.errors import Refused
from stream_processors.warehouse.main import Sink
from stream_processors.warehouse.ownership import fence
from stream_processors.warehouse.records import Message, Place
from stream_processors.warehouse.splice import splice
from stream_processors.warehouse.writer_schemas import make_writer
from tests.stream_processors.messages import FakeMessage
from tests.stream_processors.warehouse_fixture import CLASSIC, FLUSH_LIMIT_S, Bench, interaction, interactions, metric
from tests.waiting import eventually

pytestmark = pytest.mark.integration

KILL_LIMIT_S = 60


def test_what_is_emitted_lands_once_and_a_second_drain_finds_nothing_to_do(bench: Bench) -> None:
    bench.produce(interactions(bench, 3000))

    assert bench.drain()["rows"] == 3000
    assert bench.drain()["rows"] == 0
    assert bench.counts() == (3000, 3000)
    [(units, seqs)] = bench.rows("SELECT uniqExact(unit_id), uniqExact(producer_seq) FROM interactions")
    assert (units, seqs) == (3000, 3000)


def test_a_group_that_has_lost_its_offsets_inserts_nothing_twice(bench: Bench) -> None:
    bench.produce(interactions(bench, 1000))
    bench.drain()
    bench.produce(interactions(bench, 500, first=1000))

    assert bench.drain(TAILRACE_SINK_GROUP=f"{bench.prefix}other")["rows"] == 500
    assert bench.counts() == (1500, 1500)


@pytest.mark.parametrize("options", [CLASSIC, "group.protocol=consumer"], ids=["classic", "KIP-848"])
def test_a_sink_that_is_killed_leaves_nothing_lost_and_nothing_twice(bench: Bench, options: str, tmp_path: Path) -> None:
    bench.produce(interactions(bench, 12_000))
    small = {"TAILRACE_SINK_BATCH_ROWS_MAX": "250", "TAILRACE_KAFKA_OPTIONS": options}
    for landed in (500, 3000):
        with (tmp_path / "log").open("ab") as log:
            sink = subprocess.Popen(bench.command("sink"), env={**bench.environment, **small}, stderr=log, stdout=log)
        try:
            assert eventually(lambda landed=landed: bench.counts()[0] > landed, KILL_LIMIT_S), f"{landed} rows"  # type: ignore[misc]
        finally:
            sink.kill()
            sink.wait(10)

    bench.drain(**small)

    assert bench.counts() == (12_000, 12_000)


def test_sigterm_delivers_and_commits_what_was_gathered(bench: Bench, tmp_path: Path) -> None:
    bench.produce(interactions(bench, 200))
    port = free_port()
    patient = {
        "TAILRACE_SINK_BATCH_AGE_MS_MIN": "60000",
        "TAILRACE_SINK_BATCH_AGE_MS_MAX": "60000",
        "TAILRACE_METRICS_PORT": str(port),
    }
    with (tmp_path / "log").open("wb") as log:
        sink = subprocess.Popen(bench.command("sink"), env={**bench.environment, **patient}, stderr=log, stdout=log)
    assert eventually(lambda: metric(port, "tailrace_sink_gathered_records") == 200, KILL_LIMIT_S), "all records gathered"
    sink.send_signal(signal.SIGTERM)

    assert sink.wait(10) == 0
    assert bench.counts() == (200, 200)
    assert bench.drain()["rows"] == 0


def test_poison_goes_to_the_dead_letters_whole_and_the_rest_flows(bench: Bench) -> None:
    good = interactions(bench, 400)
    sample = good[0]
    no_uuid = sample.replace(interaction(0).event_id.encode(), b"z" * 36)
    poison: dict[str, list[bytes | None]] = {
        "empty": [b"", None],
        "magic": [b"\x01abcdef", b"{}"],
        "truncated": [b"\x00\x00"],
        "unknown_schema": [frame(0x0FFFFF, b"x")],
        "datum": [sample[:-3], sample + b"!", sample[:HEADER_BYTES]],
        "engine": [no_uuid],
    }
    values = [value for kind in poison.values() for value in kind]
    bench.produce([*good[:200], *values, *good[200:]])

    bench.drain()

    assert bench.counts() == (400, 400)
    assert bench.counts("dead_letters") == (len(values), len(values))
    found = bench.rows("SELECT reason, hex(value), isNull(value), topic, error != '' FROM dead_letters")
    expected = {(reason, value.hex().upper() if value is not None else "") for reason, kind in poison.items() for value in kind}
    assert {(reason, value or "") for reason, value, *_ in found} == expected
    assert {(topic, explained) for *_, topic, explained in found} == {(bench.topic(), 1)}
    assert sum(absent for _, _, absent, *_ in found) == 1
    assert published(bench) == {(reason, value or b"") for reason, kind in poison.items() for value in kind}


def test_a_byte_too_many_at_the_very_end_of_an_insert_is_seen(bench: Bench) -> None:
    [sound] = interactions(bench, 1)
    bench.produce([sound + b"!"])

    bench.drain()

    assert bench.counts() == (0, 0)
    assert bench.rows("SELECT reason, hex(value) FROM dead_letters") == [("datum", (sound + b"!").hex().upper())]


def published(bench: Bench) -> set[tuple[str, bytes]]:
    """(reason, original bytes) of what is in the topic of dead letters, whose headers name the coordinates."""
    options = {
        "bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"],
        "group.id": "look",
        "enable.partition.eof": True,
    }
    consumer = Consumer({**options, "auto.offset.reset": "earliest"})
    consumer.subscribe([bench.topic("dead-letters")])
    found: set[tuple[str, bytes]] = set()
    try:
        while (message := consumer.poll(20)) is not None and message.error() is None:
            headers = dict(message.headers() or [])
            assert {"tailrace.partition", "tailrace.offset", "tailrace.error"} <= headers.keys()
            assert message.key() is not None
            reason = headers["tailrace.reason"]
            assert isinstance(reason, bytes)
            found.add((reason.decode(), message.value() or b""))
    finally:
        consumer.close()
    return found


def test_a_record_of_another_type_is_a_dead_letter(bench: Bench) -> None:
    stranger = bench.schema_id("ProducerCheckpoint")
    bench.produce([*interactions(bench, 10), frame(stranger, b"whatever")])

    bench.drain()

    assert bench.counts() == (10, 10)
    assert bench.rows("SELECT reason, _schema_id FROM dead_letters") == [("wrong_type", stranger)]


def test_aborted_transactions_do_not_land_and_their_holes_stop_nothing(bench: Bench) -> None:
    values = interactions(bench, 300)
    options = {"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "transactional.id": bench.prefix}
    producer = Producer(options)
    producer.init_transactions(FLUSH_LIMIT_S)
    for number in range(3):
        producer.begin_transaction()
        for value in values[number * 100 : number * 100 + 100]:
            producer.produce(bench.topic(), value, key=str(number))
        if number == 1:
            producer.flush(FLUSH_LIMIT_S)
            producer.abort_transaction(FLUSH_LIMIT_S)
        else:
            producer.commit_transaction(FLUSH_LIMIT_S)

    bench.drain()

    assert bench.counts() == (200, 200)
    assert bench.rows("SELECT count() FROM interactions WHERE producer_seq BETWEEN 100 AND 199") == [(0,)]


def test_an_event_that_its_producer_sent_twice_counts_once_in_what_analysis_reads(bench: Bench) -> None:
    values = interactions(bench, 50)
    bench.produce([*values, *values[:20]])

    bench.drain()

    assert bench.counts() == (70, 70)
    assert bench.rows("SELECT count(), uniqExact(event_id) FROM interactions_once") == [(50, 50)]


def test_a_newer_schema_waits_for_its_column_and_then_lands_with_the_rest(bench: Bench) -> None:
    schema_id = register_with_channel(bench)
    bench.produce(interactions(bench, 20))
    bench.produce([frame(schema_id, value[HEADER_BYTES:] + b"\x06tel") for value in interactions(bench, 20, first=20)])
    sink = Sink(SinkConfig.from_environment(bench.environment))
    try:
        deadline = time.monotonic() + 3
        sink.run(lambda: time.monotonic() > deadline)
        assert bench.counts("dead_letters") == (0, 0)
        assert bench.rows("SELECT count() FROM interactions WHERE producer_seq >= 20") == [(0,)]
        bench.command_sql("ALTER TABLE interactions ADD COLUMN channel String DEFAULT 'web'")
        sink.drain(lambda: False, lambda _done, _total: None)
    finally:
        sink.close()

    assert bench.counts() == (40, 40)
    assert bench.rows("SELECT channel, count() FROM interactions GROUP BY channel ORDER BY channel") == [("tel", 20), ("web", 20)]


def register_with_channel(bench: Bench) -> int:
    """A second version of Interaction with a field that no migration has added."""
    schema = json.loads(contract("Interaction").newest.text)
    schema["fields"].append({"name": "channel", "type": "string", "default": "web"})
    with bench.registry() as registry:
        schema_id: int = registry.register_schema(subject(bench.prefix, INTERACTIONS), Schema(json.dumps(schema), "AVRO"))
    return schema_id


def test_whoever_owned_before_is_shut_out(bench: Bench) -> None:
    """Two owners of one partition: the first one's insert, sent after the second has fenced, leaves nothing behind."""
    writer = ClickHouseWriter(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1000)
    place, topic_id = Place(bench.topic(), 0), UUID(int=7)
    made = make_writer(1, contract("Interaction").newest.schema)
    values = interactions(bench, 3)
    messages: list[Message] = [FakeMessage(offset, value) for offset, value in enumerate(values)]
    try:
        first, second = (fence(writer, topic_id, place) for _ in range(2))
        for owner, refused in ((first, True), (second, False)):
            container = splice(made.header, Source(owner, topic_id, 0, 1, "live"), messages, b"s" * 16)
            if refused:
                with pytest.raises(Refused, match="tailrace: not the owner"):
                    writer.insert("interactions", made.columns, container, "test")
                assert bench.counts() == (0, 0)
            else:
                writer.insert("interactions", made.columns, container, "test")
    finally:
        writer.close()

    assert bench.counts() == (3, 3)


def test_an_installation_that_is_not_there_is_named_with_what_to_do(bench: Bench) -> None:
    for name, value in {
        "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1/apis/ccompat/v7",
        "TAILRACE_WAREHOUSE_URL": "http://tailrace:x@127.0.0.1:1/none",
    }.items():
        done = subprocess.run(
            bench.command("sink", "--drain"),
            env={**bench.environment, name: value},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
        assert "127.0.0.1:1" in done.stderr
        assert "tailrace up" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_topic_with_the_producers_clock_is_refused(bench: Bench) -> None:
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, bench.topic(), incremental_configs=[entry])
    [answer] = admin.incremental_alter_configs([resource]).values()
    answer.result(30)

    done = subprocess.run(
        bench.command("sink", "--drain"), env=dict(bench.environment), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert f"{bench.topic()} has message.timestamp.type=CreateTime" in done.stderr
