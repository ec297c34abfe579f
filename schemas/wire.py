"""Confluent's wire format: one magic byte 0, the schema id as four bytes big-endian, then the Avro datum.

Source: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

import struct

from schemas.errors import WireError

MAGIC = 0
HEADER_BYTES = 5

_HEADER = struct.Struct(">bI")


def header(schema_id: int) -> bytes:
    """The five bytes that precede every datum written under `schema_id`."""
    return _HEADER.pack(MAGIC, schema_id)


def frame(schema_id: int, datum: bytes) -> bytes:
    return header(schema_id) + datum


def schema_id_of(value: bytes | None) -> int:
    """The schema id of a framed value.

    Raises WireError with the reason `empty`, `truncated` or `magic`.
    """
    if not value:
        raise WireError("empty", "the record has no value")
    if value[0] != MAGIC:
        raise WireError("magic", f"the first byte is {value[0]}, not {MAGIC}: not Confluent's wire format")
    if len(value) < HEADER_BYTES:
        raise WireError("truncated", f"{len(value)} bytes are too few for a schema id")
    return int.from_bytes(value[1:HEADER_BYTES], "big")
