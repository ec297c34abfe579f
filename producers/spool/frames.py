"""Records to bytes of a segment, and a segment's bytes to records again, whatever has happened to them. Pure.

A frame is a marker, the length of the body, a CRC-32 and the body. The CRC also covers the segment's random id and the frame's
place in the file, so bytes that stand anywhere else, inside another record too, never pass for a record. A segment has no header
that damage could hit: what is needed to read it stands in its name. After damage the scan goes on at the next marker whose frame
is whole.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

MARKER = b"\xf5TR\x9e"
BODY_BYTES_MAX = 4 << 20
"""More than a broker takes by default (1 MB)."""

_HEAD = struct.Struct(">4sII")
_COVERED = struct.Struct(">QI")
_BODY = struct.Struct(">HBI")
_CURSOR = struct.Struct(">QI")
HEAD_BYTES = _HEAD.size
CURSOR_BYTES = _CURSOR.size


class SpoolRecord(NamedTuple):
    """`topic` is without its prefix, `version` the number of the contract that `datum` is written under, without wire header."""

    topic: str
    version: int
    key: bytes
    datum: bytes


class Piece(NamedTuple):
    """Bytes `start` to `end` of a segment: a record's body, or None where they are damaged."""

    start: int
    end: int
    body: bytes | None


def seed_of(segment_id: bytes) -> int:
    """What the CRCs of a segment's frames begin with."""
    return crc32(segment_id)


def body_of(record: SpoolRecord) -> bytes:
    topic = record.topic.encode()
    return b"".join((_BODY.pack(record.version, len(topic), len(record.key)), topic, record.key, record.datum))


def record_of(body: bytes) -> SpoolRecord | None:
    """None where the body, whole as it is, is not one that this release writes."""
    if len(body) < _BODY.size:
        return None
    version, topic_bytes, key_bytes = _BODY.unpack_from(body)
    key_at = _BODY.size + topic_bytes
    datum_at = key_at + key_bytes
    if datum_at > len(body):
        return None
    return SpoolRecord(body[_BODY.size : key_at].decode(errors="replace"), version, body[key_at:datum_at], body[datum_at:])


def frame(body: bytes, seed: int, start: int) -> bytes:
    """The frame of `body` at the place `start` of its segment."""
    return _HEAD.pack(MARKER, len(body), _sum(body, seed, start)) + body


def scan(data: bytes, seed: int, base: int = 0) -> Iterator[Piece]:
    """What stands in `data`, the bytes of a segment from `base` to its end. The pieces cover it without a gap."""
    at = 0
    while at < len(data):
        end = _whole(data, seed, base, at)
        if end is not None:
            yield Piece(base + at, base + end, data[at + HEAD_BYTES : end])
        else:
            end = _next_whole(data, seed, base, at + 1)
            yield Piece(base + at, base + end, None)
        at = end


def cursor(seed: int, acknowledged: int) -> bytes:
    """The content of a cursor's file: all below `acknowledged` is settled."""
    return _CURSOR.pack(acknowledged, _sum(b"cursor", seed, acknowledged))


def acknowledged_of(data: bytes, seed: int) -> int:
    """0 where the file is torn or another segment's: what is read again counts once downstream, what is skipped is lost."""
    if len(data) != CURSOR_BYTES:
        return 0
    acknowledged, found = _CURSOR.unpack(data)
    return int(acknowledged) if found == _sum(b"cursor", seed, acknowledged) else 0


def _sum(body: bytes | memoryview, seed: int, start: int) -> int:
    return crc32(body, crc32(_COVERED.pack(start, len(body)), seed))


def _whole(data: bytes, seed: int, base: int, at: int) -> int | None:
    """Where the frame at `at` ends, None where there is no whole one."""
    if len(data) - at < HEAD_BYTES:
        return None
    marker, length, found = _HEAD.unpack_from(data, at)
    end = at + HEAD_BYTES + length
    if marker != MARKER or length > BODY_BYTES_MAX or end > len(data):
        return None
    body = memoryview(data)[at + HEAD_BYTES : end]
    return end if _sum(body, seed, base + at) == found else None


def _next_whole(data: bytes, seed: int, base: int, at: int) -> int:
    """The first place from `at` on where a whole frame stands; the end of `data` where none does."""
    while (at := data.find(MARKER, at)) != -1:
        if _whole(data, seed, base, at) is not None:
            return at
        at += 1
    return len(data)
