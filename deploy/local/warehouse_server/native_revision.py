"""The Native format in the dialect of ClickHouse's TCP protocol, which Go clients (Grafana's data source) ask for over HTTP.

Pure. The embedded engine writes Native for revision 0 only. A client that names a `client_protocol_version` from 54454 on expects
before each block its info, and after each column's type a byte that says whether its serialization is a custom one (it never is
here). Finding the columns' ends takes their types' layouts: ClickHouse's src/DataTypes/Serializations. Below 54454 the version is
ignored, as clickhouse-connect expects of servers that do not know it.
"""

import re
import struct
from collections.abc import Iterator

from deploy.local.warehouse_server.errors import NOT_IMPLEMENTED, refusal

CUSTOM_SERIALIZATION_REVISION = 54454
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_DEFAULT_SERIALIZATION = b"\x00"
_NUMBER = re.compile(r"(?:U?Int|Float|BFloat)(\d+)\Z")
_SIZES = {
    **dict.fromkeys(("Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Date", "Enum16"), 2),
    **dict.fromkeys(("Date32", "DateTime", "IPv4", "Time", "Decimal32"), 4),
    **dict.fromkeys(("DateTime64", "Time64", "Decimal64"), 8),
    **dict.fromkeys(("UUID", "IPv6", "Decimal128"), 16),
    "Decimal256": 32,
}
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}
_DECIMAL_BYTES = ((9, 4), (18, 8), (38, 16), (76, 32))


class NeedsMore(Exception):  # noqa: N818 - says what is the case
    """The block does not end within the bytes that are there."""


class RevisedBlocks:
    """Bytes of revision 0 in, whole blocks of the later revision out."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 1

    def feed(self, data: bytes) -> bytes:
        self._held += data
        return b"".join(self._blocks()) if len(self._held) >= self._wanted else b""

    def end(self) -> bytes:
        return b"".join(self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        """A block that is not all there is looked at again when twice as much is: the work stays proportional to the bytes."""
        while self._held:
            block = _Block(bytes(self._held))
            try:
                revised = block.revised()
            except NeedsMore:
                self._wanted = 2 * len(self._held)
                return
            del self._held[: block.at]
            self._wanted = 1
            yield revised


class _Block:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def revised(self) -> bytes:
        columns, rows = self._varint(), self._varint()
        parts = [_BLOCK_INFO, self._data[: self.at]]
        for _ in range(columns):
            start = self.at
            self._skip(self._varint())
            type_name = self._take(self._varint()).decode()
            parts += (self._data[start : self.at], _DEFAULT_SERIALIZATION)
            start = self.at
            if rows:
                self._prefix(type_name)
                self._column(type_name, rows)
            parts.append(self._data[start : self.at])
        return b"".join(parts)

    def _prefix(self, type_name: str) -> None:
        """LowCardinality writes its version before the column, however deep it stands in it."""
        name, arguments = _parsed(type_name)
        if name == "LowCardinality":
            self._skip(8)
        elif name in {"Array", "Nullable", "Tuple", "Map", "Nested"}:
            for argument in arguments:
                self._prefix(argument)

    def _column(self, type_name: str, rows: int) -> None:
        name, arguments = _parsed(type_name)
        if name == "String":
            for _ in range(rows):
                self._skip(self._varint())
        elif name == "Nullable":
            self._skip(rows)
            self._column(arguments[0], rows)
        elif name in {"Array", "Map", "Nested"}:
            self._arrays(arguments, rows)
        elif name == "Tuple":
            self._tuple(arguments, rows)
        elif name == "LowCardinality":
            self._low_cardinality(arguments[0], rows)
        elif name == "SimpleAggregateFunction":
            self._column(arguments[1], rows)
        else:
            self._skip(rows * _size(name, arguments))

    def _tuple(self, elements: list[str], rows: int) -> None:
        for element in elements:
            self._column(element, rows)
        if not elements:
            self._skip(rows)

    def _arrays(self, elements: list[str], rows: int) -> None:
        if not rows:
            return
        offsets = self._take(rows * 8)
        self._tuple(elements, struct.unpack_from("<Q", offsets, len(offsets) - 8)[0])

    def _low_cardinality(self, inner: str, rows: int) -> None:
        if not rows:
            return
        (flags,) = struct.unpack("<Q", self._take(8))
        name, arguments = _parsed(inner)
        self._column(arguments[0] if name == "Nullable" else inner, self._count())
        self._skip(self._count() * (1 << (flags & 0xFF)))

    def _count(self) -> int:
        count: int = struct.unpack("<Q", self._take(8))[0]
        return count

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _take(self, size: int) -> bytes:
        start = self.at
        self._skip(size)
        return self._data[start : self.at]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise NeedsMore


def _parsed(type_name: str) -> tuple[str, list[str]]:
    """The type's name and arguments; a named element of a Tuple is its type."""
    type_name = _ALIASES.get(type_name, type_name)
    name, opening, rest = type_name.partition("(")
    arguments = _split(rest[: rest.rindex(")")]) if opening else []
    if name in {"Tuple", "Nested"}:
        arguments = [_unnamed(argument) for argument in arguments]
    return name.strip(), arguments


def _split(text: str) -> list[str]:
    """Arguments between commas that stand in no parentheses and no quotes."""
    parts, depth, quote, start, index = [], 0, "", 0, 0
    while index < len(text):
        character = text[index]
        if quote:
            index += character == "\\"
            quote = "" if character == quote else quote
        elif character in "'`":
            quote = character
        elif character == "," and not depth:
            parts.append(text[start:index].strip())
            start = index + 1
        depth += 0 if quote else (character == "(") - (character == ")")
        index += 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _unnamed(element: str) -> str:
    if element.startswith("`"):
        return re.sub(r"\A`(?:[^`\\]|\\.)*`\s+", "", element)
    name, space, rest = element.partition(" ")
    return rest if space and "(" not in name else element


def _size(name: str, arguments: list[str]) -> int:
    """Bytes of one value of a type of fixed width. Raises ServerError for what this module cannot lay out."""
    if name == "FixedString":
        return int(arguments[0])
    if name == "Decimal":
        return next(size for precision, size in _DECIMAL_BYTES if int(arguments[0]) <= precision)
    if number := _NUMBER.match(name):
        return int(number.group(1)) // 8
    if name.startswith("Interval"):
        return 8
    if name not in _SIZES:
        raise refusal(
            NOT_IMPLEMENTED,
            f"The embedded warehouse does not do {name} in Native of revision {CUSTOM_SERIALIZATION_REVISION} and later: "
            "the engine writes revision 0; cast the column to String.",
        )
    return _SIZES[name]
