"""Records to bytes of a segment, and a segment's bytes to records again, whatever has happened to them. Pure.

A frame is a marker, a CRC-32, its own place in the file, the length of its body, and the body. The CRC covers all that follows
it, and begins with the segment's random id; so bytes that stand anywhere else, inside another record too, never pass for one. A
segment has no header that damage could hit: what is needed to read it stands in its name. After damage the scan goes on at the
next marker whose frame is whole.

A body is the contract's version, the lengths of topic and key, then topic, key and datum, without the wire's header: schema ids
are looked up when a record is sent, so that it can be written while the registry is away.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

MARKER = b"\xf5TR\x9e"
BODY_BYTES_MAX = 4 << 20
"""More than a broker takes by default (1 MB)."""

_HEAD = struct.Struct(">4sIQIHBI")
"""Marker, CRC, place, length of what follows it; version, bytes of the topic, bytes of the key."""

_COVERED = struct.Struct(">QIHBI")
_BEFORE_CRC = 8
_BEFORE_BODY = 20
_CURSOR = struct.Struct(">QI")
HEAD_BYTES = _HEAD.size
CURSOR_BYTES = _CURSOR.size


class SpoolRecord(NamedTuple):
    """`topic` is without its prefix, `version` the number of the contract that `datum` is written under, without wire header."""

    topic: str
    version: int
    key: bytes
    datum: bytes


Piece = tuple[int, int, SpoolRecord | None]
"""From where to where in a segment, and the record that stands there; None where the bytes are damaged."""


def seed_of(segment_id: bytes) -> int:
    """What the CRCs of a segment's frames begin with."""
    return crc32(segment_id)


def frame(record: SpoolRecord, seed: int, start: int) -> bytes:
    """The frame of `record` at the place `start` of its segment."""
    name, version, key, datum = record
    topic = name.encode()
    length = HEAD_BYTES - _BEFORE_BODY + len(topic) + len(key) + len(datum)
    covered = b"".join((_COVERED.pack(start, length, version, len(topic), len(key)), topic, key, datum))
    return b"".join((MARKER, crc32(covered, seed).to_bytes(4, "big"), covered))


def scan(data: bytes, seed: int, base: int = 0) -> Iterator[Piece]:
    """What stands in `data`, the bytes of a segment from `base` to its end. The pieces cover it without a gap.

    A spool is emptied no faster than this goes, on the interpreter that answers requests: what a record does not need a call for,
    it gets without one.
    """
    at, told, size, view = 0, 0, len(data), memoryview(data)
    unpack, topics, record_of = _HEAD.unpack_from, _Topics(), tuple.__new__
    while at != -1 and size - at >= HEAD_BYTES:
        marker, found, start, length, version, topic_bytes, key_bytes = unpack(data, at)
        end = at + _BEFORE_BODY + length
        key_at = at + HEAD_BYTES + topic_bytes
        datum_at = key_at + key_bytes
        stands_here = marker == MARKER and start == base + at and datum_at <= end <= size
        if not stands_here or crc32(view[at + _BEFORE_CRC : end], seed) != found:
            at = data.find(MARKER, at + 1)
            continue
        if told < at:
            yield base + told, start, None
        topic = topics[data[at + HEAD_BYTES : key_at]]
        yield start, base + end, record_of(SpoolRecord, (topic, version, data[key_at:datum_at], data[datum_at:end]))
        at = told = end
    if told < size:
        yield base + told, base + size, None


class _Topics(dict[bytes, str]):
    """There are few topics, and many records."""

    def __missing__(self, topic: bytes) -> str:
        return self.setdefault(topic, topic.decode(errors="replace"))


def cursor(seed: int, acknowledged: int) -> bytes:
    """The content of a cursor's file: all below `acknowledged` is settled."""
    return _CURSOR.pack(acknowledged, _sum(acknowledged, seed))


def acknowledged_of(data: bytes, seed: int) -> int:
    """0 where the file is torn or another segment's: what is read again counts once downstream, what is skipped is lost."""
    if len(data) != CURSOR_BYTES:
        return 0
    acknowledged, found = _CURSOR.unpack(data)
    return int(acknowledged) if found == _sum(acknowledged, seed) else 0


def _sum(acknowledged: int, seed: int) -> int:
    return crc32(b"cursor%d" % acknowledged, seed)
