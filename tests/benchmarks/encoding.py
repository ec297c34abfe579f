"""What one event costs to encode: our codec beside Confluent's AvroSerializer, both to the same framed bytes."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.codec import Codec
from schemas.contracts import contract
from tests.benchmarks.ground import Ground
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table
from tests.benchmarks.workloads import WORKLOADS, Workload

EVENTS, QUICK_EVENTS = 5_000, 200
TURNS = 5
NAMES = ("flat", "nested")
_HOW = """Microseconds an event, the median of five turns, taken in turn. Both write the same bytes (asserted before they are
timed). The codec writes with a function that is generated from the contract; the serializer is fastavro's general writer, with
what Confluent's client does around it."""

Encoders = dict[str, Callable[[int], Any]]


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    """By workload and encoder."""
    ground.say("encoding")
    return {name: _encoding_us(WORKLOADS[name], QUICK_EVENTS if asked.quick else EVENTS) for name in NAMES}


def present(measured: Mapping[str, Any]) -> Section:
    by_encoder = {name: [measured[workload][name] for workload in measured] for name in next(iter(measured.values()))}
    ours = next(iter(by_encoder.values()))
    rows = [
        (name, *(f"{figure:.1f} ({figure / own:.2f} ×)" for figure, own in zip(figures, ours, strict=True)))
        for name, figures in by_encoder.items()
    ]
    return Section("Encoding one event", _HOW, [Table(("µs an event", *measured), rows)])


def _encoding_us(workload: Workload, events: int) -> dict[str, float]:
    encoders = _encoders(workload, events)
    turns: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(TURNS):
        for name, encode in encoders.items():
            started = time.perf_counter()
            for number in range(events):
                encode(number)
            turns[name].append((time.perf_counter() - started) / events * 1e6)
    return {name: statistics.median(figures) for name, figures in turns.items()}


def _encoders(workload: Workload, count: int) -> Encoders:
    """The serializer is measured with dicts at hand as well: it then has less to do than the codec, which starts from events."""
    events = [workload.make(number) for number in range(count)]
    ready = [dataclasses.asdict(event) for event in events]
    codec: Codec[Any] = Codec(type(events[0]))
    text, where = contract(workload.record).newest.text, SerializationContext(workload.topic.name, MessageField.VALUE)
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    schema_id = registry.register_schema(f"{workload.topic.name}-value", Schema(text, "AVRO"))
    options = {"auto.register.schemas": False, "subject.name.strategy.type": "TOPIC"}
    plain = AvroSerializer(registry, text, conf=options)
    converting = AvroSerializer(registry, text, to_dict=lambda event, _: dataclasses.asdict(event), conf=options)
    assert codec.encode(events[0], schema_id) == plain(ready[0], where), "both write the same bytes"
    return {
        "codec, from the event": lambda number: codec.encode(events[number], schema_id),
        "AvroSerializer, from a dict at hand": lambda number: plain(ready[number], where),
        "AvroSerializer, from the event": lambda number: converting(events[number], where),
    }
