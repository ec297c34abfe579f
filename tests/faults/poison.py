"""Records that no table can take, by kind. Pure."""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType

from schemas.wire import HEADER_BYTES, frame

UNKNOWN_SCHEMA_ID = 0x0FFFFF
OVERSIZE_BYTES = 64 << 10

Spoil = Callable[[bytes, int, Random], bytes | None]
"""From a good value, the id of another record's schema and a source of chance to a bad value."""


def _bad_magic(value: bytes, _stranger: int, random: Random) -> bytes:
    return bytes([random.randint(1, 255)]) + value[1:]


def _unknown_id(value: bytes, _stranger: int, _random: Random) -> bytes:
    return frame(UNKNOWN_SCHEMA_ID, value[HEADER_BYTES:])


def _truncated(value: bytes, _stranger: int, random: Random) -> bytes:
    return value[: random.randint(1, len(value) - 1)]


def _one_byte_more(value: bytes, _stranger: int, random: Random) -> bytes:
    return value + bytes([random.randint(0, 255)])


def _oversize(value: bytes, _stranger: int, random: Random) -> bytes:
    return value + random.randbytes(OVERSIZE_BYTES)


def _empty(_value: bytes, _stranger: int, random: Random) -> bytes | None:
    return random.choice((b"", None))


def _wrong_type(value: bytes, stranger: int, _random: Random) -> bytes:
    return frame(stranger, value[HEADER_BYTES:])


POISON: Mapping[str, Spoil] = MappingProxyType(
    {
        "bad magic": _bad_magic,
        "unknown id": _unknown_id,
        "truncated": _truncated,
        "one byte more": _one_byte_more,
        "oversize": _oversize,
        "empty": _empty,
        "wrong type": _wrong_type,
    }
)
PAIR = "wrong lengths in a row"
"""Not a kind of one record: one of each of PAIRED, one right after the other in their partition."""
PAIRED: Mapping[str, Spoil] = MappingProxyType(
    {
        "one byte short": lambda value, _stranger, _random: value[:-1],
        "one byte before": lambda value, _stranger, _random: value[:HEADER_BYTES] + b"\x00" + value[HEADER_BYTES:],
    }
)
MISFRAMED = ("bad magic", "empty")
"""Kinds that a sink knows without asking anybody: dead letters and rows of their batch are two inserts, one after the other."""
