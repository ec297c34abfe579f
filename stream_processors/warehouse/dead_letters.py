"""Poison: which records of a group cannot be taken, and the dead letters that they become.

The search reads and never writes. Each datum is skipped through under its writer schema, which finds what is truncated, too long
or no datum at all. What the engine still refuses (a uuid that is none) is found by halving: it parses a part of the group into
the table's column types and keeps nothing (INSERT INTO FUNCTION null). The engine alone would not do: it checks no guard there,
and two wrong lengths might make up for each other.
"""

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO

import fastavro

from schemas.errors import DatumError
from schemas.events import DeadLetter, Header
from schemas.wire import HEADER_BYTES
from stream_processors.warehouse.records import Message, Rejection
from stream_processors.warehouse.writer_schemas import Writer

ERROR_CHARS_MAX = 1000

Trial = Callable[[Sequence[Message]], str | None]
"""What the engine says against some records: None, or its error."""


def reject(message: Message, schema_id: int, reason: str, error: str) -> Rejection:
    """`message`, whole, as a dead letter."""
    letter = DeadLetter(
        topic=message.topic(),
        key=message.key(),
        value=message.value(),
        headers=tuple([Header(name, value or b"") for name, value in message.headers() or ()]),
        reason=reason,
        error=error[:ERROR_CHARS_MAX],
    )
    return Rejection(message.offset(), message.timestamp()[1], schema_id, letter)


def search(messages: Sequence[Message], writer: Writer, engine_says: Trial, *, thorough: bool) -> list[Rejection]:
    """The records of one group that cannot be taken."""
    found, readable = [], []
    for message in messages:
        error = datum_error(message, writer)
        if error is None:
            readable.append(message)
        else:
            found.append(reject(message, writer.schema_id, "datum", error))
    if not thorough:
        return found
    return found + [reject(message, writer.schema_id, "engine", error) for message, error in _halve(readable, engine_says)]


def datum_error(message: Message, writer: Writer) -> str | None:
    """What is wrong with the datum under its writer schema, None where it reads to its last byte.

    Reading into an empty reader schema skips: about twice as fast as decoding.
    """
    value = message.value() or b""
    try:
        left = len(value) - _skip(value, writer)
    except DatumError as error:
        return str(error)
    return f"{left} bytes are left over after the datum" if left else None


def _skip(value: bytes, writer: Writer) -> int:
    """The position after the datum."""
    buffer = BytesIO(value)
    buffer.seek(HEADER_BYTES)
    try:
        fastavro.schemaless_reader(buffer, writer.physical, writer.nothing)
    except Exception as error:  # fastavro raises whatever the bytes run into: IndexError, EOFError, struct.error, …
        raise DatumError(f"{type(error).__name__}: {error}") from error
    return buffer.tell()


def _halve(messages: Sequence[Message], engine_says: Trial) -> Iterable[tuple[Message, str]]:
    error = engine_says(messages) if messages else None
    if error is None:
        return
    if len(messages) == 1:
        yield messages[0], error
        return
    middle = len(messages) // 2
    yield from _halve(messages[:middle], engine_says)
    yield from _halve(messages[middle:], engine_says)
