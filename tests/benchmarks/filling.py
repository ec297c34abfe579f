"""The benchmark's own way into topics: as an emitter writes, but as fast as the broker takes it."""

import json
from collections.abc import Iterable, Mapping

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from deploy.settings import KAFKA_BOOTSTRAP, REGISTRY_URL, TOPIC_PREFIX
from producers.kafka_transport import DEFAULT_OPTIONS
from schemas.topics import Topic, topic_name
from tests.benchmarks.workloads import Workload, records

FLUSH_LIMIT_S = 120
ROOM_LIMIT_S = 1.0
ROOM_TRIES_MAX = 60

Record = tuple[str, bytes]


class Filling:
    """Writes records of one topic. Every one is acknowledged, or `end` raises."""

    def __init__(self, variables: Mapping[str, str], topic: Topic) -> None:
        self._topic = topic_name(variables[TOPIC_PREFIX], topic)
        self._producer = Producer({**DEFAULT_OPTIONS, "bootstrap.servers": variables[KAFKA_BOOTSTRAP], "log_level": 3})

    def send(self, made: Iterable[Record]) -> int:
        """How many were sent."""
        count = 0
        for key, value in made:
            self._await_room(key, value)
            count += 1
        return count

    def serve(self) -> None:
        """Take note of what the broker has acknowledged, so that there is room again."""
        self._producer.poll(0)

    def end(self) -> None:
        left = self._producer.flush(FLUSH_LIMIT_S)
        assert left == 0, f"the broker has not taken {left} records"

    def _await_room(self, key: str, value: bytes) -> None:
        for _ in range(ROOM_TRIES_MAX):
            try:
                self._producer.produce(self._topic, value, key)
            except BufferError:
                self._producer.poll(ROOM_LIMIT_S)
            else:
                return
        raise TimeoutError(f"the broker takes no records of {self._topic}")


def fill(variables: Mapping[str, str], workload: Workload, rows: int) -> None:
    """Write `rows` records of the workload."""
    filling = Filling(variables, workload.topic)
    filling.send(records(workload, schema_id_of(variables, workload), rows))
    filling.end()


def schema_id_of(variables: Mapping[str, str], workload: Workload) -> int:
    """The id of the workload's writer schema, under a subject of the benchmark's own: six fields are no released contract."""
    schema = Schema(json.dumps(workload.schema), "AVRO")
    with SchemaRegistryClient({"url": variables[REGISTRY_URL]}) as registry:
        registered: int = registry.register_schema(f"benchmark-{workload.name}-value", schema)
        return registered
