"""Records to Avro bytes and back, in Confluent's wire format.

Writing is by functions made for each schema (datum_writer.py); reading is fastavro's, and resolves any writer schema to the
record's newest version. Both leave logical types aside: times stay integers and ids stay strings, which is what the wire holds,
so nothing is converted twice.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from io import BytesIO
from typing import Any, Generic, TypeVar

import fastavro
from fastavro.types import Schema

from schemas import wire
from schemas.contracts import contract
from schemas.datum_writer import datum_writer
from schemas.errors import DatumError
from schemas.events import Record, Stamp

R = TypeVar("R", bound=Record)

_Fields = dict[str, Any]
_Convert = Callable[[Any], Any]


class Codec(Generic[R]):
    """Encodes and decodes one record type under the newest version of its contract. Safe to share between threads."""

    def __init__(self, record_type: type[R]) -> None:
        schema = contract(record_type.__name__).newest.schema
        self._schema = parse_physical(schema)
        self._write = datum_writer(schema)
        self._from_fields = _from_fields_of(record_type)

    def encode(self, record: R, schema_id: int, stamp: Stamp | None = None) -> bytes:
        """The framed bytes of `record`, with `stamp` in place of its own event_id, producer_id and producer_seq.

        Raises DatumError where a field does not fit its Avro type.
        """
        return wire.header(schema_id) + self.encode_datum(record, stamp)

    def encode_datum(self, record: R, stamp: Stamp | None = None) -> bytes:
        """As `encode`, without the frame."""
        try:
            return self._write(record, stamp or record)
        except Exception as error:  # whatever the value runs into: TypeError, ValueError, AttributeError, …
            raise DatumError(f"{type(record).__name__}: {error}") from error

    def decode(self, value: bytes | None, writer: Schema) -> R:
        """The record in a framed value whose id stands for `writer` (as `parse_physical` gives it).

        Raises WireError where the frame is wrong, DatumError where the datum does not read or has bytes left over.
        """
        wire.schema_id_of(value)
        assert value is not None, "schema_id_of has refused it"
        buffer = BytesIO(value)
        buffer.seek(wire.HEADER_BYTES)
        try:
            fields: _Fields = fastavro.schemaless_reader(buffer, writer, self._schema)  # type: ignore[assignment]
            record = self._from_fields(fields)
        except Exception as error:  # fastavro raises whatever the bytes run into: IndexError, EOFError, struct.error, …
            raise DatumError(f"{type(error).__name__}: {error}") from error
        if (left := len(value) - buffer.tell()) > 0:
            raise DatumError(f"{left} bytes are left over after the datum")
        return typing.cast("R", record)


def parse_physical(schema: Mapping[str, Any]) -> Schema:
    """`schema` parsed for fastavro, without its logical types: times read as integers, uuids as strings."""
    return fastavro.parse_schema(typing.cast("dict[str, Any]", _without_logical_types(schema)))


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, Mapping):
        kept = {key: _without_logical_types(value) for key, value in node.items() if key != "logicalType"}
        return kept["type"] if kept.keys() == {"type"} and isinstance(kept["type"], str) else kept
    if isinstance(node, list):
        return [_without_logical_types(value) for value in node]
    return node


def _from_fields_of(record_type: type[Any]) -> _Convert:
    converters = {name: convert for name, kind in _field_types(record_type).items() if (convert := _converter(kind))}

    def from_fields(fields: _Fields) -> Any:
        for name, convert in converters.items():
            fields[name] = convert(fields[name])
        return record_type(**fields)

    return from_fields


def _converter(kind: Any) -> _Convert | None:
    """What turns fastavro's value of a field into the dataclass's, None where they are the same."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind
    if (item := _item_type(kind)) is not None:
        convert = _from_fields_of(item)
        return lambda values: tuple([convert(value) for value in values])
    return tuple if typing.get_origin(kind) is tuple else None


def _item_type(kind: Any) -> type[Any] | None:
    """The dataclass that a tuple field holds, None for every other field."""
    if typing.get_origin(kind) is not tuple:
        return None
    item = typing.get_args(kind)[0]
    return item if dataclasses.is_dataclass(item) and isinstance(item, type) else None


def _field_types(record_type: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(record_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(record_type)}
