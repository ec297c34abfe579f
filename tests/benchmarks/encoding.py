"""What one event costs to encode: our codec beside Confluent's AvroSerializer, both to the same framed bytes."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.codec import Codec
from schemas.contracts import contract
from tests.benchmarks.workloads import Workload

EVENTS = 5_000
TURNS = 5

Encoders = dict[str, Callable[[int], Any]]


def encoding_us(workload: Workload) -> dict[str, float]:
    """Microseconds an event, by encoder: the median of TURNS turns, taken in turn."""
    encoders = _encoders(workload)
    turns: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(TURNS):
        for name, encode in encoders.items():
            started = time.perf_counter()
            for number in range(EVENTS):
                encode(number)
            turns[name].append((time.perf_counter() - started) / EVENTS * 1e6)
    return {name: statistics.median(figures) for name, figures in turns.items()}


def _encoders(workload: Workload) -> Encoders:
    """The serializer is measured with dicts at hand as well: it then has less to do than the codec, which starts from events."""
    events = [workload.make(number) for number in range(EVENTS)]
    ready = [dataclasses.asdict(event) for event in events]
    codec: Codec[Any] = Codec(type(events[0]))
    text, where = contract(workload.record).newest.text, SerializationContext(workload.topic, MessageField.VALUE)
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    schema_id = registry.register_schema(f"{workload.topic}-value", Schema(text, "AVRO"))
    options = {"auto.register.schemas": False, "subject.name.strategy.type": "TOPIC"}
    plain = AvroSerializer(registry, text, conf=options)
    converting = AvroSerializer(registry, text, to_dict=lambda event, _: dataclasses.asdict(event), conf=options)
    assert codec.encode(events[0], schema_id) == plain(ready[0], where), "both write the same bytes"
    return {
        "codec, from the event": lambda number: codec.encode(events[number], schema_id),
        "AvroSerializer, from a dict at hand": lambda number: plain(ready[number], where),
        "AvroSerializer, from the event": lambda number: converting(events[number], where),
    }
