"""The envelope: what the sink puts before each datum, and the warehouse's tables read into their coordinate columns.

An Avro record is its fields one after the other, so a fixed-width first field before each raw datum, under a writer schema that
declares it first, makes a valid Avro object container with nothing decoded. The byte positions below stand again (counted from
one, as SQL does) in the DEFAULT expressions of `warehouse/*.sql`; a test holds the two together.
"""

import struct
from dataclasses import dataclass
from uuid import UUID

from schemas.contracts import AvroSchema

FIELD = "_envelope"
GUARD = b"TAILRACE"
"""Stands first in every envelope: a batch that is framed one byte off shows no guard, and is refused whole."""

_HEAD = struct.Struct("<8s16s16sii16s")
_TAIL = struct.Struct("<qq")
ENVELOPE_BYTES = _HEAD.size + _TAIL.size
RUN_BYTES_MAX = 16

pack_position = _TAIL.pack
"""(offset, kafka time in milliseconds) as the envelope's last 16 bytes: the part that differs from record to record."""


@dataclass(frozen=True, slots=True)
class Source:
    """What all records of one spliced batch share."""

    owner: bytes
    """16 random bytes: whoever last wrote them into the fence owns the partition."""
    topic_id: UUID
    partition: int
    schema_id: int
    run: str
    """`live`, or the name of one replay; at most 16 bytes."""

    def head(self) -> bytes:
        """The first bytes of every envelope of the batch."""
        run = self.run.encode()
        assert len(run) <= RUN_BYTES_MAX, f"the run {self.run!r} is longer than {RUN_BYTES_MAX} bytes"
        topic_id = uuid_bytes(self.topic_id)
        return _HEAD.pack(GUARD, self.owner, topic_id, self.partition, self.schema_id, run)


def uuid_bytes(value: UUID) -> bytes:
    """A UUID in ClickHouse's order: two little-endian 64-bit halves, as reinterpretAsUUID reads them."""
    return value.bytes[7::-1] + value.bytes[:7:-1]


def fence_key(topic_id: UUID, partition: int) -> bytes:
    """The key of a partition in `ingest_fence`: 20 bytes that also stand in the envelope, one after the other."""
    return uuid_bytes(topic_id) + struct.pack("<i", partition)


def enveloped_schema(writer: AvroSchema) -> AvroSchema:
    """`writer` with the envelope declared as its first field."""
    fixed = {"type": "fixed", "name": "TailraceEnvelope", "size": ENVELOPE_BYTES}
    return {**writer, "fields": [{"name": FIELD, "type": fixed}, *writer["fields"]]}
