"""The events that are measured, and the tables of the peers. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from types import MappingProxyType
from typing import Any

import fastavro

from schemas.codec import Codec, parse_physical
from schemas.contracts import AvroSchema, contract
from schemas.events import (
    Assignment,
    Event,
    EventId,
    ExperimentId,
    Interaction,
    ItemId,
    Micros,
    ProducerId,
    RecommendationServed,
    RequestId,
    Slot,
    Traffic,
    UnitId,
)
from schemas.tables import TABLE_OF_RECORD, load_tables
from schemas.topics import INTERACTIONS, RECOMMENDATIONS, Topic
from schemas.wire import header

PEER_TABLE = "peer"
_PRODUCER = ProducerId("018f0000-0000-7000-8000-ffffffffffff")
_START_US = 1_795_424_805_000_000
_UNITS = 5000
_SIX_FIELDS = ("event_id", "occurred_at", "unit_id", "surface", "item_id", "kind")


@dataclass(frozen=True)
class Workload:
    """Records of one kind in one topic. `fields` are those of the record that are written, all where it is empty."""

    name: str
    says: str
    topic: Topic
    make: Callable[[int], Event]
    fields: tuple[str, ...] = ()

    @property
    def record(self) -> str:
        assert self.topic.record is not None, "a workload is of records"
        return self.topic.record

    @property
    def table(self) -> str:
        return TABLE_OF_RECORD[self.record]

    @cached_property
    def schema(self) -> AvroSchema:
        """The writer schema."""
        newest = contract(self.record).newest.schema
        if not self.fields:
            return newest
        by_name = {field["name"]: field for field in newest["fields"]}
        return {**newest, "fields": [by_name[name] for name in self.fields]}

    @cached_property
    def columns(self) -> dict[str, str]:
        """Types by name of what is written."""
        columns = load_tables()[self.table]
        return {field["name"]: columns[field["name"]].type for field in self.schema["fields"]}


def interaction(number: int) -> Interaction:
    return Interaction(
        occurred_at=Micros(_START_US + number),
        unit_type="user",
        unit_id=UnitId(f"user-{number % _UNITS}"),
        traffic=Traffic.LIVE,
        surface="home",
        item_id=ItemId(f"item-{number % 997}"),
        kind="click",
        request_id=RequestId(f"request-{number}"),
        position=number % 10,
        event_id=EventId(f"018f0000-0000-7000-8000-{number:012x}"),
        producer_id=_PRODUCER,
        producer_seq=number,
    )


def _recommendation(number: int) -> RecommendationServed:
    """Ten slots and three assignments: some 600 bytes."""
    assignments = [
        Assignment(
            "user", "assigned", layer == 0, ExperimentId(f"exp-{layer}"), 3, f"layer-{layer}", "ab"[number % 2], number % 10**6
        )
        for layer in range(3)
    ]
    slots = [Slot(ItemId(f"item-{(number + k) % 997}"), k, 1.5 - k / 10, 0.9 / (k + 1), "plackett_luce") for k in range(10)]
    return RecommendationServed(
        occurred_at=Micros(_START_US + number),
        unit_type="user",
        unit_id=UnitId(f"user-{number % _UNITS}"),
        traffic=Traffic.LIVE,
        request_id=RequestId(f"request-{number}"),
        surface="home",
        policy_id="plackett_luce",
        intended_policy_id="plackett_luce",
        assignments=tuple(assignments),
        slots=tuple(slots),
        context={"country": "jp", "device": "phone"},
        candidate_count=997,
        latency_us=1800,
        event_id=EventId(f"018f0000-0000-7000-8000-{number:012x}"),
        producer_id=_PRODUCER,
        producer_seq=number,
    )


WORKLOADS: Mapping[str, Workload] = MappingProxyType(
    {
        workload.name: workload
        for workload in (
            Workload("six", "interactions of six fields", INTERACTIONS, interaction, _SIX_FIELDS),
            Workload("flat", "interactions of 16 fields", INTERACTIONS, interaction),
            Workload("nested", "recommendations of 10 slots and 3 assignments", RECOMMENDATIONS, _recommendation),
        )
    }
)


def peer_table_sql(workload: Workload) -> str:
    """A plain table with the event's columns and its coordinates: what a sink that decodes would fill."""
    coordinates = {"_partition": "Int32", "_offset": "Int64", "_kafka_time": "DateTime64(3, 'UTC')"}
    order = "ORDER BY (unit_id, event_id, _partition, _offset) PARTITION BY toYYYYMMDD(_kafka_time)"
    return f"CREATE TABLE {PEER_TABLE} ({columns_sql({**coordinates, **workload.columns})}) ENGINE = MergeTree {order}"


def columns_sql(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {type_}" for name, type_ in columns.items())


def records(workload: Workload, schema_id: int, rows: int) -> Iterator[tuple[str, bytes]]:
    """(key, value) of every record."""
    encode = encoder(workload, schema_id)
    for number in range(rows):
        event = workload.make(number)
        yield event.unit_id, encode(event)


def encoder(workload: Workload, schema_id: int) -> Callable[[Event], bytes]:
    """From an event to its framed bytes."""
    if not workload.fields:
        codec: Codec[Any] = Codec(type(workload.make(0)))
        return lambda event: codec.encode(event, schema_id)
    schema, head = parse_physical(workload.schema), header(schema_id)

    def encode(event: Event) -> bytes:
        buffer = BytesIO()
        buffer.write(head)
        fastavro.schemaless_writer(buffer, schema, {name: getattr(event, name) for name in workload.fields})
        return buffer.getvalue()

    return encode
