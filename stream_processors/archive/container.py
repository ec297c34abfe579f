"""Records to files and back. Pure.

A file is an Avro object container of one writer schema, in which each record is what the warehouse takes: the envelope, then the
raw datum, with key and headers between them. The envelope's first 64 bytes, its head, are the same in all records of a file and
hold 16 random bytes in the place of an owner, which nothing that was in Kafka before can hold. So the head can be exchanged for
another owner's and run's in whole blocks, and records can be told apart, with nothing decoded. Readers of Avro need to know
nothing of it.

Records that are no datum of their topic go, byte for byte, to a container of another schema.

Container format: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import NamedTuple
from uuid import UUID

import fastavro
import zstandard
from confluent_kafka import KafkaError

from schemas.contracts import AvroSchema
from schemas.envelope import ENVELOPE_BYTES, GUARD, Source, pack_position
from schemas.wire import HEADER_BYTES, header
from stream_processors.warehouse.records import Message, OffsetRanges
from stream_processors.warehouse.splice import SYNC_BYTES, avro_long, header_of

ARCHIVE_RUN = "archive"
KEY, HEADERS = "_key", "_headers"
BLOCK_BYTES = 1 << 20
"""A block is closed when it has as many, before compression."""
_CODEC = "zstandard"
_LEVEL = 3
_MAGIC = b"Obj\x01"
_POSITION = struct.Struct("<qq")
_HEAD_BYTES = ENVELOPE_BYTES - _POSITION.size
_OFFSETS_END = 1 << 63
_SCHEMA_ID = struct.Struct("<i")
_SCHEMA_ID_AT = 44
_KEPT = [
    {"name": KEY, "type": ["null", "bytes"]},
    {
        "name": HEADERS,
        "type": {
            "type": "array",
            "items": {
                "type": "record",
                "name": "TailraceHeader",
                "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
            },
        },
    },
]
_RAW_SCHEMA = fastavro.parse_schema({
    "type": "record",
    "name": "TailraceRaw",
    "fields": [
        {"name": "_offset", "type": "long"},
        {"name": "_kafka_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *_KEPT,
        {"name": "value", "type": ["null", "bytes"]},
        {"name": "reason", "type": "string"},
    ],
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArchivedMessage:
    """A record as it was in Kafka. A `Message`."""

    topic_: str
    partition_: int
    offset_: int
    kafka_time_ms: int
    key_: bytes | None
    value_: bytes | None
    headers_: tuple[tuple[str, bytes | None], ...] = ()

    def __len__(self) -> int:
        return len(self.value_ or b"")

    def topic(self) -> str:
        return self.topic_

    def partition(self) -> int:
        return self.partition_

    def offset(self) -> int:
        return self.offset_

    def timestamp(self) -> tuple[int, int]:
        return 2, self.kafka_time_ms

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self.headers_) or None

    def error(self) -> KafkaError | None:
        return None


@dataclass(frozen=True, slots=True)
class Spliced:
    """What an INSERT takes of a file. `columns` starts with the envelope."""

    columns: tuple[str, ...]
    container: bytes
    rows: int


def archived_schema(writer_header: bytes) -> AvroSchema:
    """The schema of a file, from a writer's own container header: envelope, key, headers, then the record's fields."""
    enveloped = _Container(writer_header + bytes(SYNC_BYTES)).schema
    envelope, *fields = enveloped["fields"]
    return {**enveloped, "fields": [envelope, *_KEPT, *fields]}


def write(schema: AvroSchema, source: Source, messages: Sequence[Message], sync: bytes) -> bytes:
    """A file of `messages`, whose data all read under the schema; the owner of `source` is random and new."""
    head, compressor = source.head(), zstandard.ZstdCompressor(_LEVEL)
    parts = [header_of(schema, _CODEC), sync]
    block: list[bytes] = []
    size = 0
    for message in messages:
        record = _record(head, message)
        block.append(record)
        size += len(record)
        if size >= BLOCK_BYTES:
            parts += _block(block, compressor.compress, sync)
            block, size = [], 0
    if block:
        parts += _block(block, compressor.compress, sync)
    return b"".join(parts)


def write_raw(messages: Iterable[tuple[Message, str]]) -> bytes:
    """A file of records that are no datum of their topic, each with the reason."""
    rows = [
        {
            "_offset": message.offset(),
            "_kafka_time": message.timestamp()[1],
            KEY: message.key(),
            HEADERS: [{"name": name, "value": value} for name, value in message.headers() or ()],
            "value": message.value(),
            "reason": reason,
        }
        for message, reason in messages
    ]
    file = BytesIO()
    fastavro.writer(file, _RAW_SCHEMA, rows, codec="deflate")
    return file.getvalue()


def read_raw(content: bytes, topic: str, partition: int) -> Iterator[ArchivedMessage]:
    for row in fastavro.reader(BytesIO(content), return_record_name=False):
        assert isinstance(row, dict), "a container of records"
        at = row["_kafka_time"]
        headers = tuple([(each["name"], each["value"]) for each in row[HEADERS]])
        yield ArchivedMessage(topic, partition, row["_offset"], round(at.timestamp() * 1000), row[KEY], row["value"], headers)


class Reading:
    """A file's bytes, whose sum was looked at, ready to be spliced or read."""

    def __init__(self, content: bytes, topic: str, partition: int) -> None:
        self._container = _Container(content)
        self._topic, self._partition = topic, partition

    def splice(self, owner: bytes, run: str, topic_id: UUID, wanted: Callable[[int], bool] | None, sync: bytes) -> Spliced:
        """What goes into a table under another owner and run; of the records only the `wanted` offsets, None for all."""
        schema = self._container.schema
        columns = tuple(each["name"] for each in schema["fields"] if each["name"] not in {KEY, HEADERS})
        parts, rows = [header_of(schema, "null"), sync], 0
        for count, payload in self._container.blocks():
            old = payload[:_HEAD_BYTES]
            [schema_id] = _SCHEMA_ID.unpack_from(old, _SCHEMA_ID_AT)
            new = Source(owner, topic_id, self._partition, schema_id, run).head()
            data = payload.replace(old, new) if wanted is None else _chosen(payload, old, new, wanted)
            kept = count if wanted is None else data.count(new)
            if kept:
                parts += [avro_long(kept), avro_long(len(data)), data, sync]
            rows += kept
        return Spliced(columns, b"".join(parts), rows)

    def messages(self, first: int = 0, end: int = _OFFSETS_END) -> Iterator[ArchivedMessage]:
        """The records of [first, end). Blocks that hold none of them are decompressed the first time only."""
        for payload in self._container.holding(first, end):
            head = payload[:_HEAD_BYTES]
            [schema_id] = _SCHEMA_ID.unpack_from(head, _SCHEMA_ID_AT)
            framing = header(schema_id)
            for record in payload.split(head)[1:]:
                offset, kafka_time_ms = _POSITION.unpack_from(record)
                if not first <= offset < end:
                    continue
                key, at = _optional(record, _POSITION.size)
                headers, at = _headers(record, at)
                value = framing + record[at:]
                yield ArchivedMessage(self._topic, self._partition, offset, kafka_time_ms, key, value, headers)


class _Block(NamedTuple):
    """Where a block's bytes lie, and the offset of its first record."""

    first: int
    at: int
    size: int


@dataclass(slots=True)
class _Container:
    """Blocks of a container whose bytes are known to be those that were written."""

    content: bytes
    schema: AvroSchema = field(init=False)
    _codec: str = field(init=False)
    _at: int = field(init=False)
    _index: list[_Block] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        metadata, at = _metadata(self.content)
        self.schema = json.loads(metadata["avro.schema"])
        self._codec = metadata.get("avro.codec", b"null").decode()
        self._at = at + SYNC_BYTES

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Count and bytes of each, decompressed; each record in it shows the head of the first."""
        at = self._at
        while at < len(self.content):
            count, start = _long(self.content, at)
            size, start = _long(self.content, start)
            payload = self._payload(start, size)
            assert payload.startswith(GUARD), "a block begins with an envelope"
            assert payload.count(payload[:_HEAD_BYTES]) == count, "each record of a block shows its head once"
            yield count, payload
            at = start + size + SYNC_BYTES

    def holding(self, first: int, end: int) -> Iterator[bytes]:
        """The blocks that may hold offsets of [first, end)."""
        if not self._index:
            self._index = list(self._indexed())
        ends = [block.first for block in self._index[1:]] + [_OFFSETS_END]
        for block, block_end in zip(self._index, ends, strict=True):
            if block.first < end and block_end > first:
                yield self._payload(block.at, block.size)

    def _indexed(self) -> Iterator[_Block]:
        at = self._at
        while at < len(self.content):
            _, start = _long(self.content, at)
            size, start = _long(self.content, start)
            first, _ = _POSITION.unpack_from(self._payload(start, size), _HEAD_BYTES)
            yield _Block(first, start, size)
            at = start + size + SYNC_BYTES

    def _payload(self, start: int, size: int) -> bytes:
        payload = self.content[start : start + size]
        return zstandard.ZstdDecompressor().decompress(payload) if self._codec == _CODEC else payload


def _record(head: bytes, message: Message) -> bytes:
    key, value = message.key(), message.value()
    assert value is not None, "records without a value are no data"
    position = pack_position(message.offset(), message.timestamp()[1])
    headers = message.headers()
    kept = b"\0" if not headers else _packed_headers(headers)
    return b"".join((head, position, _packed(key), kept, value[HEADER_BYTES:]))


def _packed(value: bytes | None) -> bytes:
    return b"\0" if value is None else b"\2" + avro_long(len(value)) + value


def _packed_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    named = b"".join(avro_long(len(name.encode())) + name.encode() + _packed(value) for name, value in headers)
    return avro_long(len(headers)) + named + b"\0"


def _block(records: list[bytes], compress: Callable[[bytes], bytes], sync: bytes) -> list[bytes]:
    data = compress(b"".join(records))
    return [avro_long(len(records)), avro_long(len(data)), data, sync]


def _chosen(payload: bytes, old: bytes, new: bytes, wanted: Callable[[int], bool]) -> bytes:
    records = payload.split(old)[1:]
    return b"".join(new + record for record in records if wanted(_POSITION.unpack_from(record)[0]))


def wanted_within(first: int, end: int, without: OffsetRanges) -> Callable[[int], bool]:
    return lambda offset: first <= offset < end and offset not in without


def _metadata(content: bytes) -> tuple[dict[str, bytes], int]:
    assert content.startswith(_MAGIC), "a container begins with its magic bytes"
    metadata: dict[str, bytes] = {}
    count, at = _long(content, len(_MAGIC))
    while count:
        for _ in range(count):
            size, at = _long(content, at)
            name, at = content[at : at + size].decode(), at + size
            size, at = _long(content, at)
            metadata[name], at = content[at : at + size], at + size
        count, at = _long(content, at)
    return metadata, at


def _optional(record: bytes, at: int) -> tuple[bytes | None, int]:
    branch, at = _long(record, at)
    if branch == 0:
        return None, at
    size, at = _long(record, at)
    return record[at : at + size], at + size


def _headers(record: bytes, at: int) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, at = _long(record, at)
    found: list[tuple[str, bytes | None]] = []
    while count:
        for _ in range(count):
            size, at = _long(record, at)
            name = record[at : at + size].decode()
            value, at = _optional(record, at + size)
            found.append((name, value))
        count, at = _long(record, at)
    return tuple(found), at


def _long(content: bytes, at: int) -> tuple[int, int]:
    """Avro's long at a position, and the position after it."""
    number = shift = 0
    while True:
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
