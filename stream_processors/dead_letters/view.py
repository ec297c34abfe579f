"""A dead letter as people read and repair it: JSON, fields as far as they read, a hex dump. Pure.

The JSON of `tailrace dlq show` is also what `tailrace dlq replay --repaired` takes back: what was changed in it is the repair,
either the bytes (`value_base64`) or the fields (`event`), which are then written under the newest version of their contract.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import fastavro

from schemas.codec import parse_physical
from schemas.contracts import contract
from schemas.errors import DatumError, WireError
from schemas.wire import HEADER_BYTES, frame, schema_id_of
from stream_processors.dead_letters.store import Coordinates, StoredLetter
from stream_processors.warehouse.writer_schemas import Writer

_DUMP_BYTES_A_LINE = 16
_DUMP_BYTES_MAX = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Fields = dict[str, Any]
WriterOf = Callable[[int], Writer | None]
"""The registry: the writer of a schema id."""


def time_text(time_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601; as a number where no calendar has it."""
    try:
        return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return f"{time_ms} ms"


def read_fields(value: bytes | None, writer_of: WriterOf) -> tuple[str | None, Fields | None, list[str]]:
    """Which record a value says it is, its fields as far as they read, the names of those that do not.

    (None, None, []) where the frame or the schema id says nothing.
    """
    try:
        writer = writer_of(schema_id_of(value))
    except WireError:
        return None, None, []
    if writer is None:
        return None, None, []
    names = [field["name"] for field in writer.fields]
    fields: Fields = {}
    buffer = BytesIO(value or b"")
    buffer.seek(HEADER_BYTES)
    for field in writer.fields:
        try:
            fields |= _read(buffer, field)
        except Exception:  # noqa: BLE001 - fastavro raises whatever the bytes run into; the field then counts as unread
            break
    return writer.record, fields, names[len(fields) :]


def _read(buffer: BytesIO, field: Fields) -> Fields:
    schema = parse_physical({"type": "record", "name": "_Field", "fields": [field]})
    read: Fields = fastavro.schemaless_reader(buffer, schema, None)  # type: ignore[assignment]
    return read


def as_json(stored: StoredLetter, writer_of: WriterOf) -> Fields:
    """The letter as `dlq show --json` prints it."""
    summary, letter = stored.summary, stored.letter
    record, fields, unread = read_fields(letter.value, writer_of)
    return {
        "topic": letter.topic,
        "topic_id": str(summary.topic_id),
        "partition": summary.place.partition,
        "offset": summary.offset,
        "kafka_time": time_text(summary.kafka_time_ms),
        "schema_id": summary.schema_id,
        "reason": letter.reason,
        "error": letter.error,
        "buried_at": time_text(summary.buried_at_ms),
        "repaired": summary.repaired,
        "key_base64": _base64(letter.key),
        "headers": [{"name": header.name, "value_base64": _base64(header.value)} for header in letter.headers],
        "value_base64": _base64(letter.value),
        "record": record,
        "event": fields,
        "unread": unread,
    }


def as_text(stored: StoredLetter, writer_of: WriterOf) -> str:
    """The same for a person: coordinates, what is wrong, headers, fields, bytes."""
    shown = as_json(stored, writer_of)
    letter = stored.letter
    coordinates = {**shown, "key": letter.key, "value": f"{len(letter.value)} bytes" if letter.value is not None else None}
    kept = ("topic_id", "kafka_time", "schema_id", "reason", "error", "buried_at", "repaired", "key", "value")
    lines = [str(stored.summary.coordinates), *(f"  {name:11} {coordinates[name]}" for name in kept)]
    lines += [f"  header      {header.name}: {header.value!r}" for header in letter.headers]
    if shown["event"] is not None:
        lines.append(f"fields of {shown['record']}")
        lines += [f"  {name:24} {value!r}" for name, value in shown["event"].items()]
        lines += [f"  {name:24} (does not read)" for name in shown["unread"]]
    return "\n".join([*lines, *_hex_dump(letter.value or b"")])


def repaired_value(
    stored: StoredLetter, line: Fields, writer_of: WriterOf, record: str, newest_id: Callable[[], int]
) -> bytes | None:
    """The value that a repaired letter's JSON stands for: the letter's own where nothing was changed.

    Raises DatumError where both bytes and fields were changed, or the fields do not make a `record`.
    """
    before = as_json(stored, writer_of)
    new_bytes = line.get("value_base64", before["value_base64"]) != before["value_base64"]
    event = line.get("event")
    new_fields = event is not None and _canonical(event) != _canonical(before["event"])
    if new_bytes and new_fields:
        raise DatumError("both value_base64 and event were changed: leave one as it was")
    if new_fields:
        if not isinstance(event, dict):
            raise DatumError("event is not an object of fields")
        return frame(newest_id(), encode_fields(event, record))
    if new_bytes:
        encoded = line["value_base64"]
        return None if encoded is None else _decoded(encoded)
    return stored.letter.value


def encode_fields(fields: Fields, record: str) -> bytes:
    """The datum of `fields` under the newest version of `record`'s contract. Raises DatumError, also for a value it would cut."""
    schema = contract(record).newest.schema
    defaults = {field["name"]: field["default"] for field in schema["fields"] if "default" in field}
    wanted = {**defaults, **fields}
    names = {field["name"] for field in schema["fields"]}
    if wrong := sorted(names ^ wanted.keys()):
        raise DatumError(f"a {record} has the fields {', '.join(sorted(names))}; {', '.join(wrong)} is too many or missing")
    physical, buffer = parse_physical(schema), BytesIO()
    try:
        fastavro.schemaless_writer(buffer, physical, wanted)
    except Exception as error:  # whatever the value runs into: TypeError, ValueError, …
        raise DatumError(f"{record}: {error}") from error
    written = fastavro.schemaless_reader(BytesIO(buffer.getvalue()), physical, None)
    if written != wanted and _canonical(written) != _canonical(wanted):  # equal as numbers, or in the text of a NaN
        raise DatumError(f"{record}: some value is not of its field's type, and would be changed by writing it")
    return buffer.getvalue()


def coordinates_of(line: Fields) -> Coordinates:
    """Where a repaired letter belongs; its topic's id where the line has one. Raises DatumError."""
    try:
        return Coordinates(str(line.get("topic_id") or line["topic"]), int(line["partition"]), int(line["offset"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DatumError(f"a repaired letter names its topic (or topic_id), partition and offset: {error}") from error


def _canonical(fields: Any) -> str:
    return json.dumps(fields, sort_keys=True, default=repr)


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _decoded(encoded: Any) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except (TypeError, ValueError) as error:
        raise DatumError(f"value_base64 is not base64: {error}") from error


def _hex_dump(value: bytes) -> Iterator[str]:
    for at in range(0, min(len(value), _DUMP_BYTES_MAX), _DUMP_BYTES_A_LINE):
        some = value[at : at + _DUMP_BYTES_A_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in some)
        yield f"{at:08x}  {some.hex(' '):{_DUMP_BYTES_A_LINE * 3}} {text}"
    if len(value) > _DUMP_BYTES_MAX:
        yield f"… {len(value) - _DUMP_BYTES_MAX} bytes more: --raw prints them all"
