"""Whether a datum reads, under its writer schema, to its last byte: a check made for each schema, as fast as Python goes.

It says of a single datum what the engine says of it: the rules below are those of the Avro reader in ClickHouse, kept by a test
against the real one. A branch of a union that is not there is a null to it, a block's size is not looked at, a text may be any
bytes. What it is more exact in: bytes after the datum, which the engine passes over where no record follows. A date out of range
is left to the engine, since engines differ there.

The check is source text made from the schema, as the codec's is. Each field is one step over the bytes; what is out of the
ordinary (a length above 63, a varint of many bytes, a fault) goes to a function. Nothing is decoded or copied but uuids.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from schemas.contracts import AvroSchema
from schemas.errors import ContractError, DatumError
from schemas.wire import HEADER_BYTES

DatumEnd = Callable[[bytes], int]
"""From a framed value to the position after its datum; past the value's length, or IndexError, where the value ends too early.

Raises DatumError where a field cannot be what it should, ValueRefused where it reads and its column still cannot take it.
"""

_VARINT_BYTES_MAX = 10
_UUID_CHARS = 36
_UUID_SHAPE = b"hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh"
_UUID_CLASSES = bytes(
    ord("h") if chr(byte) in "0123456789abcdefABCDEF" else byte if byte == ord("-") else 0 for byte in range(256)
)
_EIGHT_BYTES_MASK = 0x80808080_80808080
_EIGHT_BYTES = 0x00808080_80808080


def check_of(schema: AvroSchema) -> DatumEnd:
    """The check for records written under `schema`. Raises ContractError for a schema that the warehouse has no type for."""
    names: dict[str, Any] = {}
    lines = [f"    {line}" for line in _record(schema, "", _Room(names, count()))]
    source = "\n".join(["def datum_end(b):", f"    p = {HEADER_BYTES}", *lines, "    return p"])
    space = {**_STEPS, **names}
    exec(source, space)  # noqa: S102 - made of our own text, numbers and quoted names
    end: DatumEnd = space["datum_end"]
    return end


class ValueRefused(DatumError):  # noqa: N818 - says what is the case
    """Well written, but nothing that the engine takes for the column's type."""


class _Room:
    """Names for what the source text needs: tables of steps and loop variables."""

    def __init__(self, tables: dict[str, Any], numbers: Iterator[int]) -> None:
        self._tables, self._numbers = tables, numbers

    def table(self, steps: Mapping[int, int]) -> str:
        """A table of the bytes to step over, by the byte that stands at `p`; 0 where it takes a function to say."""
        name = f"T{next(self._numbers)}"
        self._tables[name] = tuple([steps.get(byte, 0) for byte in range(256)])
        return name

    def variable(self) -> str:
        return f"n{next(self._numbers)}"


def _record(schema: AvroSchema, path: str, room: _Room) -> list[str]:
    if not schema["fields"]:
        raise ContractError(f"the record {schema['name']!r} has no fields")
    return [line for field in schema["fields"] for line in _lines(field["type"], f"{path}{field['name']}", room)]


def _lines(avro: Any, path: str, room: _Room) -> list[str]:
    """The source that steps `p` over one value."""
    if isinstance(avro, list):
        return _nullable(avro, path, room)
    if isinstance(avro, str):
        return _primitive(avro, None, path)
    if not isinstance(avro["type"], str):
        return _lines(avro["type"], path, room)
    return _complex(avro, path, room) or _primitive(avro["type"], avro.get("logicalType"), path)


def _complex(avro: AvroSchema, path: str, room: _Room) -> list[str]:
    """The same for a type with parts, none for a primitive."""
    match avro["type"]:
        case "array":
            return _blocks(_lines(avro["items"], path, room), room)
        case "map":
            return _blocks([_TEXT, *_lines(avro["values"], path, room)], room)
        case "record":
            return _record(avro, f"{path}.", room)
        case "enum":
            symbols = len(avro["symbols"])
            table = room.table({2 * index: 1 for index in range(min(symbols, 64))})
            return [f"p += {table}[b[p]] or enum_step(b, p, {symbols}, {path!r})"]
        case "fixed":
            return [f"p += {int(avro['size'])}"]
        case _:
            return []


def _primitive(name: str, logical: str | None, path: str) -> list[str]:
    lines = _PRIMITIVES.get((name, logical)) or _PRIMITIVES.get((name, None))
    if lines is None:
        raise ContractError(f"{path}: the type {name!r} is not taken")
    return [line.replace("PATH", repr(path)) for line in lines]


def _varint(otherwise: str) -> list[str]:
    return [
        "if b[p] < 128: p += 1",
        "elif b[p + 1] < 128: p += 2",
        "elif b[p + 2] < 128: p += 3",
        "elif b[p + 3] < 128: p += 4",
        f"else: p += {otherwise}",
    ]


_TEXT = "p += TEXT[b[p]] or text_step(b, p)"
_UUID = "p += 37 if b[p] == 72 and b[p + 1:p + 37].translate(UUID_CLASSES) == UUID_SHAPE else uuid_step(b, p, PATH)"
_TIME = "p += 8 if from_bytes(b[p:p + 8], 'little') & EIGHT_MASK == EIGHT else long_step(b, p)"
_PRIMITIVES: dict[tuple[str, str | None], list[str]] = {
    ("string", None): [_TEXT],
    ("bytes", None): [_TEXT],
    ("string", "uuid"): [_UUID],
    ("long", "timestamp-micros"): [_TIME],
    ("long", None): _varint("long_step(b, p)"),
    ("int", None): _varint("int_step(b, p, PATH)"),
    ("boolean", None): ["p += BOOLEAN[b[p]] or boolean_step(b, p, PATH)"],
    ("double", None): ["p += 8"],
    ("float", None): ["p += 4"],
}
"""By type and logical type. The usual time of this century is a varint of eight bytes."""


def _nullable(union: list[Any], path: str, room: _Room) -> list[str]:
    """A branch that is neither of the two is a null to the engine."""
    others = [index for index, branch in enumerate(union) if branch != "null"]
    if len(union) != 2 or len(others) != 1:
        raise ContractError(f"{path}: the union {union} is not null and one type")
    [branch] = others
    if (size := _FIXED_BYTES.get(str(union[branch]))) is not None:
        table = room.table({2 * branch: 1 + size, 2 * (1 - branch): 1})
        return [f"p += {table}[b[p]] or nullable_step(b, p, {branch}, {size})"]
    variable = room.variable()
    if union == ["null", "string"]:
        return [
            f"{variable} = b[p]",
            f"if {variable} == 2: p += 1 + (TEXT[b[p + 1]] or text_step(b, p + 1))",
            f"elif {variable}: p += nullable_text_step(b, p)",
            "else: p += 1",
        ]
    return [
        f"{variable} = b[p]",
        "p += 1",
        f"if {variable} > 2: {variable}, p = branch(b, p - 1)",
        f"if {variable} == {2 * branch}:",
        *_indented(_lines(union[branch], path, room)),
    ]


def _blocks(item: list[str], room: _Room) -> list[str]:
    """Blocks of items, the last one empty."""
    variable = room.variable()
    return [
        f"while {variable} := b[p]:",
        f"    if {variable} < 128 and not {variable} & 1:",
        f"        {variable} >>= 1",
        "        p += 1",
        "    else:",
        f"        {variable}, p = block(b, p)",
        f"        if not {variable}:",
        "            p -= 1",
        "            break",
        f"    for _ in range({variable}):",
        *_indented(_indented(item)),
        "p += 1",
    ]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _long(b: bytes, p: int) -> tuple[int, int]:
    """A long at `p` and the position after it. Ten bytes at most; bits above the 64th fall away, as they do in the engine."""
    number = 0
    for index in range(_VARINT_BYTES_MAX):
        byte = b[p + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            number &= 0xFFFFFFFF_FFFFFFFF
            return (number >> 1) ^ -(number & 1), p + index + 1
    raise DatumError("a number of more than ten bytes")


def _long_step(b: bytes, p: int) -> int:
    return _long(b, p)[1] - p


def _int_step(b: bytes, p: int, path: str) -> int:
    number, end = _long(b, p)
    if not -(1 << 31) <= number < 1 << 31:
        raise DatumError(f"{path}: {number} is no 32-bit number")
    return end - p


def _text_step(b: bytes, p: int) -> int:
    length, end = _long(b, p)
    if length < 0:
        raise DatumError(f"a text of {length} bytes at {p}")
    return end - p + length


def _uuid_step(b: bytes, p: int, path: str) -> int:
    length, start = _long(b, p)
    if length < 0:
        raise DatumError(f"{path}: a text of {length} bytes")
    text = b[start : start + length]
    if len(text) < length:
        raise IndexError
    if length != _UUID_CHARS or text.translate(_UUID_CLASSES) != _UUID_SHAPE:
        raise ValueRefused(f"{path}: {text[:64].decode(errors='replace')!r} is no uuid")
    return start - p + length


def _enum_step(b: bytes, p: int, symbols: int, path: str) -> int:
    index, end = _long(b, p)
    if not 0 <= index < symbols:
        raise DatumError(f"{path}: the enum has {symbols} symbols, and none at {index}")
    return end - p


def _boolean_step(b: bytes, p: int, path: str) -> int:
    raise DatumError(f"{path}: the byte {b[p]} is no boolean")


def _branch(b: bytes, p: int) -> tuple[int, int]:
    """The first byte of a union's branch as it would be written shortest, and the position after it. It counts modulo 2^32."""
    index, end = _long(b, p)
    return 2 * (index & 0xFFFFFFFF), end


def _nullable_step(b: bytes, p: int, branch: int, size: int) -> int:
    first, end = _branch(b, p)
    return end - p + (size if first == 2 * branch else 0)


def _nullable_text_step(b: bytes, p: int) -> int:
    first, end = _branch(b, p)
    return end - p + (_text_step(b, end) if first == 2 else 0)


def _block(b: bytes, p: int) -> tuple[int, int]:
    """How many items follow, and the position of the first. After a negative count stands a size; the engine passes over it."""
    items, end = _long(b, p)
    if items < 0:
        items, end = -items, _long(b, end)[1]
    return items, end


_FIXED_BYTES = {"double": 8, "float": 4}
_STEPS: dict[str, Any] = {
    "TEXT": tuple([0 if byte & 0x81 else 1 + (byte >> 1) for byte in range(256)]),
    "BOOLEAN": (1, 1, *[0] * 254),
    "UUID_CLASSES": _UUID_CLASSES,
    "UUID_SHAPE": _UUID_SHAPE,
    "EIGHT_MASK": _EIGHT_BYTES_MASK,
    "EIGHT": _EIGHT_BYTES,
    "from_bytes": int.from_bytes,
    "long_step": _long_step,
    "int_step": _int_step,
    "text_step": _text_step,
    "uuid_step": _uuid_step,
    "enum_step": _enum_step,
    "boolean_step": _boolean_step,
    "branch": _branch,
    "nullable_step": _nullable_step,
    "nullable_text_step": _nullable_text_step,
    "block": _block,
}
