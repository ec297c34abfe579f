"""What is measured: each way from a topic into a table, in a process of its own.

All read the same topic with the same pinned fetch settings (but the engine, which has its own), in batches of the same size.
`python -m tests.benchmarks.contenders NAME WORKLOAD ROWS SKIP` prints its run as JSON; where the parts are comes from TAILRACE_*
variables.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from types import MappingProxyType
from typing import Any

import clickhouse_connect
import fastavro
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.wire import HEADER_BYTES
from stream_processors.warehouse.kafka_source import FETCH_RECORDS_MAX, consumer_options
from tests.benchmarks.kafka_table import kafka_table
from tests.benchmarks.meter import Meter
from tests.benchmarks.replay_contender import run_from_archive, run_replay
from tests.benchmarks.sink_contender import run_sink
from tests.benchmarks.unguarded import take_guards_off
from tests.benchmarks.workloads import PEER_TABLE, WORKLOADS, Workload

BATCH_ROWS = 100_000
_POLL_S = 0.2

SINK, UNGUARDED, FASTAVRO, DESERIALIZER = "sink", "unguarded", "fastavro", "deserializer"
TABLE_1, TABLE_2, CONSUME, REPLAY, ARCHIVE = "kafka-table-1", "kafka-table-2", "consume", "replay", "archive"


@dataclass(frozen=True, slots=True)
class Contender:
    """`rows_share` is the part of the topic that it is given: rates are rates, and the slow would take minutes for all of it."""

    says: str
    run: Callable[[Workload, Meter], None]
    rows_share: float


def fastavro_insert(workload: Workload, meter: Meter) -> None:
    schema = fastavro.parse_schema(workload.schema)

    def decode(message: Message) -> Any:
        return fastavro.schemaless_reader(BytesIO((message.value() or b"")[HEADER_BYTES:]), schema, None)

    _decode_and_insert(workload, decode, meter)


def deserializer_insert(workload: Workload, meter: Meter) -> None:
    with SchemaRegistryClient({"url": os.environ["TAILRACE_REGISTRY_URL"]}) as registry:
        deserialize = AvroDeserializer(registry, conf={"subject.name.strategy.type": "TOPIC"})
        where = SerializationContext(_topic(workload), MessageField.VALUE)
        _decode_and_insert(workload, lambda message: deserialize(message.value(), where), meter)


def consume(workload: Workload, meter: Meter) -> None:
    consumer = _consumer(workload)
    try:
        for batch in _batches(consumer, meter):
            meter.note(len(batch))
    finally:
        consumer.close()


def unguarded_sink(_workload: Workload, meter: Meter) -> None:
    take_guards_off()
    run_sink(meter)


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        SINK: Contender("the sink (splice, exactly once)", lambda _workload, meter: run_sink(meter), 1.0),
        FASTAVRO: Contender("fastavro decode + clickhouse-connect insert", fastavro_insert, 0.14),
        DESERIALIZER: Contender("AvroDeserializer + clickhouse-connect insert", deserializer_insert, 0.07),
        TABLE_1: Contender("the engine's Kafka table, AvroConfluent, 1 consumer", kafka_table(1), 0.2),
        TABLE_2: Contender("the engine's Kafka table, AvroConfluent, 2 consumers", kafka_table(2), 0.2),
        CONSUME: Contender("bare consume loop, nothing inserted", consume, 0.5),
        ARCHIVE: Contender("a replay from the archive", lambda workload, meter: run_from_archive(workload.topic, meter), 1.0),
        REPLAY: Contender("a replay of the topic", lambda workload, meter: run_replay(workload.topic, meter), 1.0),
        UNGUARDED: Contender("the sink without fence and reconciliation", unguarded_sink, 1.0),
    }
)


def _decode_and_insert(workload: Workload, decode: Callable[[Message], Any], meter: Meter) -> None:
    """At least once: the commit follows the insert."""
    client = clickhouse_connect.get_client(dsn=os.environ["TAILRACE_WAREHOUSE_URL"], compress=False)
    consumer = _consumer(workload)
    names = ["_partition", "_offset", "_kafka_time", *workload.columns]
    try:
        for batch in _batches(consumer, meter):
            rows = [_row(message, decode(message), workload.columns) for message in batch]
            client.insert(PEER_TABLE, rows, column_names=names)
            consumer.commit(asynchronous=True)
            meter.note(len(rows))
    finally:
        consumer.close()
        client.close()


def _row(message: Message, record: Any, fields: Mapping[str, str]) -> list[Any]:
    kafka_time = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    return [message.partition(), message.offset(), kafka_time, *[_native(record[name]) for name in fields]]


def _native(value: Any) -> Any:
    """Nested records as the tuples that clickhouse-connect takes."""
    if isinstance(value, list):
        return [tuple(item.values()) for item in value]
    return value


def _consumer(workload: Workload) -> Consumer:
    bootstrap = os.environ["TAILRACE_KAFKA_BOOTSTRAP"]
    options = consumer_options({"bootstrap.servers": bootstrap}, os.environ["TAILRACE_SINK_GROUP"])
    consumer = Consumer({**options, "auto.offset.reset": "earliest"})
    consumer.subscribe([_topic(workload)])
    return consumer


def _batches(consumer: Consumer, meter: Meter) -> Iterator[list[Message]]:
    """Until the meter has what it wants."""
    batch: list[Message] = []
    while len(batch) < meter.left:
        if found := [message for message in consumer.consume(FETCH_RECORDS_MAX, _POLL_S) if _is_record(message)]:
            meter.start()
            batch += found
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_record(message: Message) -> bool:
    error = message.error()
    assert error is None or error.code() == KafkaError._PARTITION_EOF, f"the consumer: {error}"
    return error is None


def _topic(workload: Workload) -> str:
    return os.environ["TAILRACE_TOPIC_PREFIX"] + workload.topic.name


def main() -> None:
    contender, workload = CONTENDERS[sys.argv[1]], WORKLOADS[sys.argv[2]]
    meter = Meter(os.environ, int(sys.argv[3]), int(sys.argv[4]))
    contender.run(workload, meter)
    sys.stdout.write(json.dumps(meter.run().as_json()) + "\n")


if __name__ == "__main__":
    main()
