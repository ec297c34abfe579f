"""Records to bytes of a segment, and a segment's bytes to records again, whatever has happened to them. Pure.

A frame is a marker, a CRC-32, its own place in the file, the length of its body, and the body. The CRC covers all that follows
it, and begins with the segment's random id; so bytes that stand anywhere else, inside another record too, never pass for one. A
segment has no header that damage could hit: what is needed to read it stands in its name. After damage the scan goes on at the
next marker whose frame is whole.

A body is the contract's version, the lengths of topic and key, then topic, key and datum, without the wire's header: schema ids
are looked up when a record is sent, so that it can be written while the registry is away.
"""

import struct
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


class Run(NamedTuple):
    """From where to where in a segment, and the records that stand there; none where the bytes are damaged."""

    start: int
    end: int
    records: list[SpoolRecord]


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


class Scan:
    """What stands in `data`, the bytes of a segment from `base` to its end. The runs cover it without a gap.

    A spool is emptied no faster than this goes, on the interpreter that answers requests: what a record does not need a call or
    an object for, it gets without one.
    """

    def __init__(self, data: bytes, seed: int, base: int = 0) -> None:
        self._data, self._seed, self._base = data, seed, base
        self._at = 0
        self._topics = _Topics()

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def run(self, records_max: int) -> Run:
        """The next: up to so many records, or the damage up to the next one. Empty when all is told."""
        start = self._at
        records, self._at = self._whole(start, records_max)
        if not records:
            self._at = self._after_damage(start)
        return Run(self._base + start, self._base + self._at, records)

    def _whole(self, at: int, records_max: int) -> tuple[list[SpoolRecord], int]:
        """The records that stand at `at`, one behind the other, and where they end."""
        data, base, seed, topics = self._data, self._base, self._seed, self._topics
        unpack, record_of, size, view = _HEAD.unpack_from, tuple.__new__, len(data), memoryview(data)
        records: list[SpoolRecord] = []
        while len(records) < records_max and size - at >= HEAD_BYTES:
            marker, found, start, length, version, topic_bytes, key_bytes = unpack(data, at)
            end = at + _BEFORE_BODY + length
            key_at = at + HEAD_BYTES + topic_bytes
            datum_at = key_at + key_bytes
            stands_here = marker == MARKER and start == base + at and datum_at <= end <= size
            if not stands_here or crc32(view[at + _BEFORE_CRC : end], seed) != found:
                break
            topic = topics[data[at + HEAD_BYTES : key_at]]
            records.append(record_of(SpoolRecord, (topic, version, data[key_at:datum_at], data[datum_at:end])))
            at = end
        return records, at

    def _after_damage(self, at: int) -> int:
        """Where the next record begins; the end where there is none."""
        while (at := self._data.find(MARKER, at + 1)) != -1:
            if self._whole(at, 1)[0]:
                return at
        return len(self._data)


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
