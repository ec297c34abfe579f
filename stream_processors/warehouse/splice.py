"""Records to one INSERT's body, with nothing decoded.

A batch is sorted into groups of one schema id and one day, because an Avro container has one writer schema and an insert that
touches one partition of its table is all or nothing. Each group becomes an Avro object container in which every raw datum stands
behind its envelope (schemas/envelope.py). Pure: no clock, no I/O; the sync marker comes in.

Container format: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from schemas.contracts import AvroSchema
from schemas.envelope import ENVELOPE_BYTES, Source, enveloped_schema, pack_position
from schemas.errors import WireError
from schemas.wire import HEADER_BYTES, schema_id_of
from stream_processors.warehouse.records import Message, OffsetRanges

SYNC_BYTES = 16
DAY_MS = 86_400_000


@dataclass(slots=True)
class Group:
    """Records of one schema id and one day (UTC, of Kafka's clock), in offset order."""

    schema_id: int
    messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch, sorted: groups to insert, and records whose frame is wrong."""

    groups: list[Group]
    misframed: list[tuple[Message, WireError]]


def sort_batch(messages: Sequence[Message], present: OffsetRanges) -> Sorted:
    """Group `messages` by schema id and day, leaving out what is accounted for already."""
    if messages and messages[0].offset() < present.end:
        messages = [message for message in messages if message.offset() not in present]
    if (group := _one_group(messages)) is not None:
        return Sorted([group], [])
    groups: dict[tuple[bytes, int], Group] = {}
    misframed = []
    for message in messages:
        key = ((message.value() or b"")[:HEADER_BYTES], message.timestamp()[1] // DAY_MS)
        group = groups.get(key)
        if group is None:
            try:
                group = groups[key] = Group(schema_id_of(message.value()))
            except WireError as error:
                misframed.append((message, error))
                continue
        group.messages.append(message)
    return Sorted(list(groups.values()), misframed)


def _one_group(messages: Sequence[Message]) -> Group | None:
    """The usual case, in a fraction of the time: all of one schema id and one day."""
    if not messages:
        return None
    heads = {(message.value() or b"")[:HEADER_BYTES] for message in messages}
    days = {message.timestamp()[1] // DAY_MS for message in messages}
    if len(heads) > 1 or len(days) > 1:
        return None
    try:
        return Group(schema_id_of(messages[0].value()), list(messages))
    except WireError:
        return None


def container_header(writer: AvroSchema) -> bytes:
    """The container's first bytes, up to the sync marker, for data written under `writer`."""
    return header_of(enveloped_schema(writer), "null")


def header_of(schema: AvroSchema, codec: str) -> bytes:
    """The first bytes of any container, up to the sync marker."""
    metadata = {"avro.schema": json.dumps(_without_docs(schema)).encode(), "avro.codec": codec.encode()}
    entries = b"".join(avro_long(len(key)) + key.encode() + avro_long(len(value)) + value for key, value in metadata.items())
    return b"Obj\x01" + avro_long(len(metadata)) + entries + avro_long(0)


def _without_docs(node: Any) -> Any:
    """A schema without its docs: the engine's Avro library refuses some, for reasons of its own. Defaults stay as they are."""
    if isinstance(node, list):
        return [_without_docs(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: value if key == "default" else _without_docs(value) for key, value in node.items() if key != "doc"}


def splice(header: bytes, source: Source, messages: Sequence[Message], sync: bytes) -> bytes:
    """A whole container with the framed values of `messages`, each behind its envelope."""
    positions = [pack_position(message.offset(), message.timestamp()[1]) for message in messages]
    data = [message.value()[HEADER_BYTES:] for message in messages]  # type: ignore[index]  # sort_batch has refused empty values
    return _container(header, source, positions, data, sync)


def splice_data(header: bytes, source: Source, data: Sequence[tuple[int, int, bytes]], sync: bytes) -> bytes:
    """The same for bare data, given as (offset, kafka time in milliseconds, datum)."""
    positions = [pack_position(offset, kafka_time_ms) for offset, kafka_time_ms, _ in data]
    return _container(header, source, positions, [datum for _, _, datum in data], sync)


def _container(header: bytes, source: Source, positions: list[bytes], data: list[bytes], sync: bytes) -> bytes:
    """One block; its length counts the envelopes, so a datum cut short cannot borrow the marker's bytes unseen."""
    assert len(sync) == SYNC_BYTES, "the sync marker is 16 bytes"
    size = len(data) * ENVELOPE_BYTES + sum(map(len, data))
    records = chain.from_iterable(zip(repeat(source.head()), positions, data, strict=False))
    return b"".join(chain((header, sync, avro_long(len(data)), avro_long(size)), records, (sync,)))


def avro_long(number: int) -> bytes:
    """Avro's long: zigzag, then seven bits a byte, the lowest first."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest & ~0x7F:
        encoded.append((rest & 0x7F) | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
