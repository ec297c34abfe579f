"""Reading what an installation's topics hold, as any client would."""

import json
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient

from schemas.codec import Codec, parse_physical
from schemas.topics import Topic
from schemas.wire import schema_id_of


class Log:
    """Reads a topic from its start to its present end, as any client would: with the schema that the registry has for the id."""

    def __init__(self, installation: Mapping[str, str]) -> None:
        self._bootstrap = installation["TAILRACE_KAFKA_BOOTSTRAP"]
        self._prefix = installation.get("TAILRACE_TOPIC_PREFIX", "tailrace.")
        self._registry_url = installation["TAILRACE_REGISTRY_URL"]

    def read(self, kind: type[Any], topic: Topic) -> list[Any]:
        codec = Codec(kind)
        values = self._values(self._prefix + topic.name, topic.partitions)
        schemas = {schema_id: self._schema(schema_id) for schema_id in {schema_id_of(value) for value in values}}
        return [codec.decode(value, schemas[schema_id_of(value)]) for value in values]

    def _schema(self, schema_id: int) -> Any:
        with SchemaRegistryClient({"url": self._registry_url}) as registry:
            return parse_physical(json.loads(registry.get_schema(schema_id).schema_str or ""))

    def _values(self, topic: str, partitions: int) -> list[bytes]:
        options = {"bootstrap.servers": self._bootstrap, "group.id": "none", "enable.auto.commit": False}
        consumer = Consumer(options)
        values: list[bytes] = []
        try:
            for partition in range(partitions):
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
                values.extend(_partition(consumer, TopicPartition(topic, partition, 0), end))
        finally:
            consumer.close()
        return values


def _partition(consumer: Consumer, start: TopicPartition, end: int) -> list[bytes]:
    values: list[bytes] = []
    consumer.assign([start])
    reached = 0
    while reached < end:
        message = consumer.poll(10)
        assert message is not None, "the topic's records did not come"
        assert message.error() is None
        values.append(bytes(message.value() or b""))
        reached = (message.offset() or 0) + 1
    return values
