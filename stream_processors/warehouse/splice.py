"""Records to one INSERT's body, with nothing decoded.

A batch is sorted into groups of one schema id and one day, because an Avro container has one writer schema and an insert that
touches one partition of its table is all or nothing. Each group becomes an Avro object container in which every raw datum stands
behind its envelope (schemas/envelope.py). Pure: no clock, no I/O; the sync marker comes in.

Container format: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.contracts import AvroSchema
from schemas.envelope import ENVELOPE_BYTES, Source, enveloped_schema, pack_position
from schemas.errors import WireError
from schemas.wire import HEADER_BYTES, schema_id_of
from stream_processors.warehouse.records import Message, OffsetRanges

SYNC_BYTES = 16
_DAY_MS = 86_400_000


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


def sort_batch(messages: Iterable[Message], present: OffsetRanges) -> Sorted:
    """Group `messages` by schema id and day, leaving out what the warehouse has already."""
    groups: dict[tuple[bytes, int], Group] = {}
    misframed = []
    for message in messages:
        if present and message.offset() in present:
            continue
        key = ((message.value() or b"")[:HEADER_BYTES], message.timestamp()[1] // _DAY_MS)
        group = groups.get(key)
        if group is None:
            try:
                group = groups[key] = Group(schema_id_of(message.value()))
            except WireError as error:
                misframed.append((message, error))
                continue
        group.messages.append(message)
    return Sorted(list(groups.values()), misframed)


def container_header(writer: AvroSchema) -> bytes:
    """The container's first bytes, up to the sync marker, for data written under `writer`."""
    schema = json.dumps(_without_docs(enveloped_schema(writer)))
    metadata = {"avro.schema": schema.encode(), "avro.codec": b"null"}
    entries = b"".join(_long(len(key)) + key.encode() + _long(len(value)) + value for key, value in metadata.items())
    return b"Obj\x01" + _long(len(metadata)) + entries + _long(0)


def _without_docs(node: Any) -> Any:
    """A schema without its docs: the engine's Avro library refuses some, for reasons of its own. Defaults stay as they are."""
    if isinstance(node, list):
        return [_without_docs(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: value if key == "default" else _without_docs(value) for key, value in node.items() if key != "doc"}


def splice(header: bytes, source: Source, messages: list[Message], sync: bytes) -> bytes:
    """A whole container with the framed values of `messages`, each behind its envelope."""
    parts: list[bytes] = []
    head, append, position = source.head(), parts.append, pack_position
    for message in messages:
        append(head)
        append(position(message.offset(), message.timestamp()[1]))
        append(message.value()[HEADER_BYTES:])  # type: ignore[index]  # sort_batch has refused empty values
    return _container(header, parts, len(messages), sync)


def splice_data(header: bytes, source: Source, data: Iterable[tuple[int, int, bytes]], sync: bytes) -> bytes:
    """The same for bare data, given as (offset, kafka time in milliseconds, datum)."""
    head = source.head()
    parts: list[bytes] = []
    for offset, kafka_time_ms, datum in data:
        parts += (head, pack_position(offset, kafka_time_ms), datum)
    return _container(header, parts, len(parts) // 3, sync)


def _container(header: bytes, parts: list[bytes], count: int, sync: bytes) -> bytes:
    """One block; its length counts the envelopes, so a datum cut short cannot borrow the marker's bytes unseen."""
    assert len(sync) == SYNC_BYTES, "the sync marker is 16 bytes"
    body = b"".join(parts)
    assert len(body) >= count * ENVELOPE_BYTES, "every record has an envelope"
    return b"".join((header, sync, _long(count), _long(len(body)), body, sync))


def _long(number: int) -> bytes:
    """Avro's long: zigzag, then seven bits a byte, the lowest first."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest & ~0x7F:
        encoded.append((rest & 0x7F) | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
