"""Poison: which records of a group cannot be taken, and the dead letters that they become.

The search reads and never writes. Each datum is stepped through by itself under its writer schema (datum.py), so that two wrong
lengths cannot make up for each other; that finds all that the engine is known to refuse. What it refuses besides is found by
halving: it parses a part of the group into the table's column types and keeps nothing (INSERT INTO FUNCTION null). The engine
alone would not do: it checks no guard there, and passes over bytes after the last datum.
"""

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from schemas.errors import DatumError
from schemas.events import DeadLetter, Header
from stream_processors.warehouse.datum import ValueRefused
from stream_processors.warehouse.records import Message, Rejection
from stream_processors.warehouse.writer_schemas import Writer

ERROR_CHARS_MAX = 1000
TRIALS_MAX = 256
"""Of one search. One bad record among 100,000 takes 35, so some are found before it is reached, and the rest by the next."""
LETTER_COLUMNS = """
    topic, base64Encode(key) AS key, base64Encode(value) AS value,
    arrayMap(header -> (header.name, base64Encode(header.value)), headers) AS headers, reason, error
"""
"""A dead letter in its table, so that JSON can carry its bytes."""
_SCHEMA_ID_MAX = (1 << 31) - 1

Trial = Callable[[Sequence[Message]], str | None]
"""What the engine says against some records: None, or its error."""


def reject(message: Message, schema_id: int, reason: str, error: str) -> Rejection:
    """`message`, whole, as a dead letter. A schema id that no registry gives is noted as 0: the column has 31 bits for it."""
    letter = DeadLetter(
        topic=message.topic(),
        key=message.key(),
        value=message.value(),
        headers=tuple([Header(name, value or b"") for name, value in message.headers() or ()]),
        reason=reason,
        error=error[:ERROR_CHARS_MAX],
    )
    noted_id = schema_id if schema_id <= _SCHEMA_ID_MAX else 0
    return Rejection(message.offset(), message.timestamp()[1], noted_id, letter)


def letter_of(row: Mapping[str, Any]) -> DeadLetter:
    """A dead letter from a row of LETTER_COLUMNS."""
    return DeadLetter(
        topic=row["topic"],
        key=_bytes(row["key"]),
        value=_bytes(row["value"]),
        headers=tuple([Header(name, b64decode(value)) for name, value in map(_pair, row["headers"])]),
        reason=row["reason"],
        error=row["error"],
    )


def _pair(header: Any) -> tuple[str, str]:
    """A tuple as JSON: an array, or an object where the tuple's elements are named and the server writes them so."""
    name, value = header.values() if isinstance(header, dict) else header
    return name, value


def _bytes(encoded: str | None) -> bytes | None:
    return None if encoded is None else b64decode(encoded)


def search(messages: Sequence[Message], writer: Writer, engine_says: Trial, *, thorough: bool) -> list[Rejection]:
    """Records of one group that cannot be taken: with `thorough` the engine is asked about what reads well.

    It is asked TRIALS_MAX times at most. What was not found by then is refused with its batch, and looked for again.
    """
    found = _unreadable(messages, writer)
    if not thorough:
        return found
    bad = {rejection.offset for rejection in found}
    readable = [message for message in messages if message.offset() not in bad] if bad else messages
    refused = _Halving(engine_says).refused(readable)
    return found + [reject(message, writer.schema_id, "engine", error) for message, error in refused]


def search_end(messages: Sequence[Message], writer: Writer) -> list[Rejection]:
    """Records at the end of a group that do not read, back to the first that does.

    The engine passes over bytes after the last datum of an insert: no envelope follows them that would show what is wrong.
    """
    found: list[Rejection] = []
    for message in reversed(messages):
        told = fault(message.value() or b"", writer)
        if told is None:
            break
        found.append(reject(message, writer.schema_id, *told))
    return found


def fault(value: bytes, writer: Writer) -> tuple[str, str] | None:
    """Reason and error of a framed value whose datum does not read, to its last byte and no further, into its columns' types."""
    try:
        left = len(value) - writer.datum_end(value)
    except IndexError:
        return "datum", "the value ends in the middle of the datum"
    except ValueRefused as error:
        return "engine", str(error)
    except DatumError as error:
        return "datum", str(error)
    if left < 0:
        return "datum", f"the value ends {-left} bytes before the datum does"
    return ("datum", f"{left} bytes are left over after the datum") if left else None


def _unreadable(messages: Sequence[Message], writer: Writer) -> list[Rejection]:
    """The one loop over every record of a suspected batch: nothing in it but the check."""
    found, datum_end = [], writer.datum_end
    for message in messages:
        value: bytes = message.value()  # type: ignore[assignment]  # sort_batch has refused empty values
        try:
            if datum_end(value) == len(value):
                continue
        except (IndexError, DatumError):
            pass  # `fault` says what it was
        if (told := fault(value, writer)) is not None:
            found.append(reject(message, writer.schema_id, *told))
    return found


class _Halving:
    """Finds what the engine refuses, part by part, with a limit on how often it is asked."""

    def __init__(self, engine_says: Trial) -> None:
        self._engine_says, self._trials = engine_says, 0

    def refused(self, messages: Sequence[Message]) -> Iterator[tuple[Message, str]]:
        if not messages or self._trials == TRIALS_MAX:
            return
        self._trials += 1
        error = self._engine_says(messages)
        if error is None:
            return
        if len(messages) == 1:
            yield messages[0], error
            return
        middle = len(messages) // 2
        yield from self.refused(messages[:middle])
        yield from self.refused(messages[middle:])
