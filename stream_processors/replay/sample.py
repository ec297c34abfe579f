"""Some records of a run, decoded by an independent reader from the log's own bytes, against the rows that they became.

The reader is fastavro under the registered writer schema; the engine's Avro reader, the splice and the tables' columns have no
part in it. Which records are looked at follows from the run's name, so that a second verification looks at the same ones.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from itertools import islice
from typing import Any, NamedTuple

import fastavro

from schemas.codec import parse_physical
from schemas.errors import WireError
from schemas.wire import HEADER_BYTES, schema_id_of
from stream_processors.archive.reading import ArchiveReader
from stream_processors.replay.errors import Gone
from stream_processors.replay.log_reader import LogReader
from stream_processors.replay.manifest import Manifest, PieceSource
from stream_processors.replay.transform import Transformation
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import Message
from stream_processors.warehouse.writer_schemas import Misfit, Writer, WriterSchemas

RECORDS = 100
_ROWS = """
SELECT * FROM {table} FINAL
WHERE _topic_id = '{topic_id}' AND (_partition, _offset) IN ({places})
SETTINGS date_time_output_format = 'unix_timestamp', output_format_json_quote_64bit_integers = 0,
    output_format_json_named_tuples_as_objects = 1, output_format_json_quote_denormals = 1
FORMAT JSONEachRow
"""
_LETTERS = """
SELECT _partition, _offset FROM replay_dead_letters FINAL
WHERE _run = '{run}' AND _topic_id = '{topic_id}' AND (_partition, _offset) IN ({places}) FORMAT JSONCompactEachRow
"""


class Misread(NamedTuple):
    """A row that is not what its record says; `columns` are those that differ, `row` where there is none or it should not be."""

    partition: int
    offset: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SampleFinding:
    """`gone` records are no longer in the log, and could not be looked at."""

    looked_at: int
    dead_letters: int
    gone: int
    misread: tuple[Misread, ...]


@dataclass(frozen=True, slots=True)
class Sampler:
    """Raises PartUnreachable, Retryable where a part does not answer."""

    writer: ClickHouseWriter
    schemas: WriterSchemas
    reader: LogReader
    archive: ArchiveReader | None
    manifest: Manifest
    computed: frozenset[str]
    """Columns that the warehouse computed: the record does not say what they should be."""
    transformation: Transformation | None

    def look(self) -> SampleFinding:
        messages: dict[tuple[int, int], Message] = {}
        gone = 0
        for partition, offset, source in places(self.manifest):
            try:
                message = self._message(partition, offset, source)
            except Gone:
                gone += 1
                continue
            if message is not None:
                messages[partition, message.offset()] = message
        return self._compared(messages, gone)

    def agrees(self, table: str, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bool]:
        """Whether a table's rows at these coordinates are what the log's records say; those that are gone are left out."""
        found = {}
        for (partition, offset), row in self._rows(table, wanted).items():
            try:
                message = self._message(partition, offset, self._source(partition, offset))
            except Gone:
                continue
            if message is not None and message.offset() == offset:
                found[partition, offset] = not self._differing(message, row)
        return found

    def _source(self, partition: int, offset: int) -> PieceSource:
        pieces = (piece for each in self.manifest.ranges if each.partition == partition for piece in each.pieces)
        return next((piece.source for piece in pieces if piece.first <= offset < piece.end), PieceSource.KAFKA)

    def _message(self, partition: int, offset: int, source: PieceSource) -> Message | None:
        if source is PieceSource.KAFKA:
            message = self.reader.record(partition, offset)
            return message if message is not None and self._within(partition, message.offset()) else None
        if self.archive is None:
            raise Gone("no archive is known")
        return next(self.archive.messages(self.manifest.topic_id, partition, offset, offset + 1), None)

    def _within(self, partition: int, offset: int) -> bool:
        pieces = (piece for each in self.manifest.ranges if each.partition == partition for piece in each.pieces)
        return any(piece.first <= offset < piece.end for piece in pieces)

    def _compared(self, messages: Mapping[tuple[int, int], Message], gone: int) -> SampleFinding:
        rows, letters = self._rows(self.manifest.run_table, list(messages)), self._letters(list(messages))
        misread = []
        for place, message in messages.items():
            row = rows.get(place)
            if row is None and place in letters:
                continue
            columns = ("row",) if row is None else self._differing(message, row)
            if columns:
                misread.append(Misread(*place, columns))
        return SampleFinding(len(messages), len(letters - rows.keys()), gone, tuple(misread))

    def _differing(self, message: Message, row: Mapping[str, Any]) -> tuple[str, ...]:
        try:
            writer = self.schemas.of_record(schema_id_of(message.value()), self.manifest.record)
            if isinstance(writer, Misfit):
                return ("row",)
            value, writer = self._value(message, writer)
            fields = decoded(value, writer)
        except (WireError, EOFError, ValueError, IndexError):
            return ("row",)
        return tuple(name for name, said in fields.items() if name not in self.computed and not same(said, row[name]))

    def _value(self, message: Message, writer: Writer) -> tuple[bytes, Writer]:
        """What was inserted for a record: its own value, or what the function makes of it now."""
        if self.transformation is None:
            return message.value() or b"", writer
        value = self.transformation.value(message, writer)
        made = self.schemas.of_record(schema_id_of(value), self.manifest.record)
        assert not isinstance(made, Misfit), "the newest schema is registered"
        return value, made

    def _rows(self, table: str, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Mapping[str, Any]]:
        answer = self._ask(_ROWS, table, wanted)
        rows = (json.loads(line, parse_float=Decimal) for line in answer.splitlines())
        return {(row["_partition"], row["_offset"]): row for row in rows}

    def _letters(self, wanted: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        found = (json.loads(line) for line in self._ask(_LETTERS, "", wanted).splitlines())
        return {(int(partition), int(offset)) for partition, offset in found}

    def _ask(self, statement: str, table: str, wanted: Sequence[tuple[int, int]]) -> bytes:
        if not wanted:
            return b""
        listed = ", ".join(f"({partition}, {offset})" for partition, offset in wanted)
        manifest = self.manifest
        return self.writer.query(statement.format(table=table, topic_id=manifest.topic_id, run=manifest.run, places=listed))


def places(manifest: Manifest, records: int = RECORDS) -> list[tuple[int, int, PieceSource]]:
    """Where to look: spread over all that is read, the same for the same run."""
    chance = random.Random(manifest.run)  # noqa: S311 - a choice to be made again, not a secret
    wanted = sorted(chance.sample(range(manifest.offsets), min(records, manifest.offsets)))
    return list(islice(_at(manifest, wanted), len(wanted)))


def _at(manifest: Manifest, wanted: Iterable[int]) -> Iterator[tuple[int, int, PieceSource]]:
    """The coordinates of the offsets with these numbers, counted over all pieces."""
    pieces = [(each.partition, piece) for each in manifest.ranges for piece in each.pieces]
    before = 0
    numbers = iter(wanted)
    number = next(numbers, None)
    for partition, piece in pieces:
        while number is not None and number < before + piece.end - piece.first:
            yield partition, piece.first + number - before, piece.source
            number = next(numbers, None)
        before += piece.end - piece.first


def decoded(value: bytes, writer: Writer) -> Mapping[str, Any]:
    """A framed value's fields: times as whole numbers, ids as text, as they stand on the wire."""
    schema = parse_physical({"type": "record", "name": writer.record, "fields": list(writer.fields)})
    found: Any = fastavro.schemaless_reader(BytesIO(value[HEADER_BYTES:]), schema, None)
    fields: Mapping[str, Any] = found
    return fields


def same(said: Any, stored: Any) -> bool:
    """Whether a column, as JSON, holds what a record says."""
    if isinstance(said, Mapping):
        return bool(said.keys() == stored.keys()) and all(same(said[key], stored[key]) for key in said)
    if isinstance(said, list):
        return len(said) == len(stored) and all(map(same, said, stored))
    if isinstance(said, bool) or said is None:
        return bool(said == stored)
    if isinstance(said, float):
        return _same_float(said, stored)
    if isinstance(said, int):
        return _same_number(said, stored)
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return bool(text == stored or text.lower() == stored)


def _same_float(said: float, stored: Any) -> bool:
    found = float(stored)
    return (math.isnan(said) and math.isnan(found)) or said == found


def _same_number(said: int, stored: Any) -> bool:
    """A time is stored as seconds with digits behind the point, and said in whole units of its own."""
    if isinstance(stored, str):
        digits = len(stored.partition(".")[2])
        return bool(Decimal(stored) * 10**digits == said)
    return bool(said == stored)
