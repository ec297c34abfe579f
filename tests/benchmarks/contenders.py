"""What is measured: each way from a topic into a table, in a process of its own.

All read the same topic with the same pinned fetch settings in batches of the same size, from joining the group to the last
commit. `python -m tests.benchmarks.contenders NAME WORKLOAD` prints rows, seconds and CPU seconds of the process as JSON; where
the parts are comes from TAILRACE_* variables.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import clickhouse_connect
import fastavro
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.contracts import contract
from schemas.wire import HEADER_BYTES
from stream_processors.warehouse.config import SinkConfig
from stream_processors.warehouse.kafka_source import consumer_options
from stream_processors.warehouse.main import Sink
from tests.benchmarks.workloads import PEER_TABLE, WORKLOADS, Workload

BATCH_ROWS = 100_000
_POLL_S = 0.2


def splice(_workload: Workload) -> int:
    """The sink itself: exactly once."""
    sink = Sink(SinkConfig.from_environment({**os.environ, "TAILRACE_SINK_BATCH_ROWS_MAX": str(BATCH_ROWS)}))
    try:
        return sink.drain(lambda: False, lambda _done, _total: None).rows
    finally:
        sink.close()


def consume(workload: Workload) -> int:
    """Nothing but the consumer's loop: what the client library leaves for everything else."""
    return sum(len(batch) for batch, _ in _batches(workload))


def fastavro_insert(workload: Workload) -> int:
    """fastavro decodes, clickhouse-connect inserts; at least once."""
    schema = fastavro.parse_schema(contract(workload.record).newest.schema)

    def decode(message: Message) -> Any:
        return fastavro.schemaless_reader(BytesIO((message.value() or b"")[HEADER_BYTES:]), schema, None)

    return _decode_and_insert(workload, decode)


def deserializer_insert(workload: Workload) -> int:
    """Confluent's AvroDeserializer decodes, clickhouse-connect inserts; at least once."""
    with SchemaRegistryClient({"url": os.environ["TAILRACE_REGISTRY_URL"]}) as registry:
        deserialize = AvroDeserializer(registry, conf={"subject.name.strategy.type": "TOPIC"})
        where = SerializationContext(_topic(workload), MessageField.VALUE)
        return _decode_and_insert(workload, lambda message: deserialize(message.value(), where))


CONTENDERS: dict[str, Callable[[Workload], int]] = {
    "splice": splice,
    "fastavro + clickhouse-connect": fastavro_insert,
    "AvroDeserializer + clickhouse-connect": deserializer_insert,
    "bare consume loop": consume,
}


def _decode_and_insert(workload: Workload, decode: Callable[[Message], Any]) -> int:
    client = clickhouse_connect.get_client(dsn=os.environ["TAILRACE_WAREHOUSE_URL"], compress=False)
    fields = [field["name"] for field in contract(workload.record).newest.schema["fields"]]
    names, count = ["_partition", "_offset", "_kafka_time", *fields], 0
    try:
        for batch, commit in _batches(workload):
            rows = [_row(message, decode(message), fields) for message in batch]
            client.insert(PEER_TABLE[workload.record], rows, column_names=names)
            commit()
            count += len(rows)
    finally:
        client.close()
    return count


def _row(message: Message, record: Any, fields: list[str]) -> list[Any]:
    kafka_time = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    return [message.partition(), message.offset(), kafka_time, *[_native(record[name]) for name in fields]]


def _native(value: Any) -> Any:
    """Nested records as the tuples that clickhouse-connect takes."""
    if isinstance(value, list):
        return [tuple(item.values()) for item in value]
    return value


def _batches(workload: Workload) -> Iterator[tuple[list[Message], Callable[[], None]]]:
    """All of a topic, in batches, and what commits each."""
    bootstrap, topic = os.environ["TAILRACE_KAFKA_BOOTSTRAP"], _topic(workload)
    options = consumer_options({"bootstrap.servers": bootstrap}, os.environ["TAILRACE_SINK_GROUP"])
    consumer = Consumer({**options, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    ended: set[int | None] = set()
    batch: list[Message] = []
    try:
        while len(ended) < workload.partitions:
            for message in consumer.consume(20_000, _POLL_S):
                error = message.error()
                if error is None:
                    batch.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
            if len(batch) >= BATCH_ROWS:
                yield batch, lambda: consumer.commit(asynchronous=True)
                batch = []
        if batch:
            yield batch, lambda: consumer.commit(asynchronous=True)
    finally:
        consumer.close()


def _topic(workload: Workload) -> str:
    return os.environ["TAILRACE_TOPIC_PREFIX"] + workload.topic


def main() -> None:
    contend, workload = CONTENDERS[sys.argv[1]], WORKLOADS[sys.argv[2]]
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = contend(workload)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write(json.dumps({"rows": rows, "seconds": seconds, "cpu_seconds": cpu_s}) + "\n")


if __name__ == "__main__":
    main()
