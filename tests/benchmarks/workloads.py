"""The events that are measured, and the tables of the peers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec
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
from schemas.topics import SHARED_PARTITIONS

_PRODUCER = ProducerId("018f0000-0000-7000-8000-ffffffffffff")
_START_US = 1_795_424_805_000_000
_UNITS = 5000


@dataclass(frozen=True)
class Workload:
    """`rows` records of one kind in one topic."""

    name: str
    record: str
    topic: str
    rows: int
    make: Callable[[int], Event]
    partitions: int = SHARED_PARTITIONS

    @property
    def table(self) -> str:
        return TABLE_OF_RECORD[self.record]


def _interaction(number: int) -> Interaction:
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


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("flat", "Interaction", "interactions", 400_000, _interaction),
        Workload("nested", "RecommendationServed", "recommendations", 100_000, _recommendation),
    )
}

PEER_TABLE = {"Interaction": "peer_interactions", "RecommendationServed": "peer_recommendations"}


def peer_table_sql(workload: Workload) -> str:
    """A plain table with the event's columns and its coordinates: what a sink that decodes would fill."""
    columns = [column for column in load_tables()[workload.table].values() if not column.name.startswith("_")]
    lines = [
        "_partition Int32",
        "_offset Int64",
        "_kafka_time DateTime64(3, 'UTC')",
        *(f"{column.name} {column.type}" for column in columns),
    ]
    name = PEER_TABLE[workload.record]
    order = "ORDER BY (unit_id, event_id, _partition, _offset) PARTITION BY toYYYYMMDD(_kafka_time)"
    return f"CREATE TABLE {name} ({', '.join(lines)}) ENGINE = MergeTree {order}"


def encoded(workload: Workload, schema_id: int) -> list[tuple[str, bytes]]:
    """(key, value) of every record."""
    events = [workload.make(number) for number in range(workload.rows)]
    codec: Codec[Any] = Codec(type(events[0]))
    return [(event.unit_id, codec.encode(event, schema_id)) for event in events]
