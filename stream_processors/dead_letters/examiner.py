"""Whether records would be taken now: all that the sink asks of a record, and the engine's own opinion. Nothing here writes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from schemas.envelope import Source
from schemas.errors import PartUnreachable
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letters import Trial, search
from stream_processors.warehouse.records import Message, OffsetRanges, Route
from stream_processors.warehouse.splice import Group, sort_batch, splice
from stream_processors.warehouse.writer_schemas import Misfit, Writer, WriterSchemas

_NOBODY = Source(bytes(16), UUID(int=0), 0, 0, "trial")


class Objection(NamedTuple):
    """What stands against the record at `offset`. `reason` is one of the words that dead letters are counted by, or `behind`."""

    offset: int
    reason: str
    error: str


class Insertable(NamedTuple):
    """Records that one insert takes: of one schema id and one day."""

    writer: Writer
    messages: list[Message]


class Examiner:
    """Examines records of one partition. Raises Retryable where a part does not answer."""

    def __init__(self, writer: ClickHouseWriter, schemas: WriterSchemas, new_sync: Callable[[], bytes]) -> None:
        self._writer, self._schemas, self._new_sync = writer, schemas, new_sync
        self._columns: dict[str, dict[str, str]] = {}

    def examine(self, messages: Sequence[Message], route: Route) -> tuple[list[Insertable], list[Objection]]:
        """What may go in, and what stands against the rest."""
        ordered = sort_batch(messages, OffsetRanges())
        objections = [Objection(message.offset(), error.reason, str(error)) for message, error in ordered.misframed]
        accepted = []
        for group in ordered.groups:
            writer, refused = self._examine(group, route)
            objections += refused
            offsets = {objection.offset for objection in refused}
            if writer is not None and (kept := [message for message in group.messages if message.offset() not in offsets]):
                accepted.append(Insertable(writer, kept))
        return accepted, objections

    def _examine(self, group: Group, route: Route) -> tuple[Writer | None, list[Objection]]:
        writer = self._schemas.of_record(group.schema_id, route.record)
        if isinstance(writer, Misfit):
            return None, _all(group, writer.reason, writer.error)
        columns = self._columns_of(route.table)
        if lacking := [name for name in writer.columns if name not in columns]:
            return None, _all(group, "behind", f"{route.table} lacks {', '.join(lacking)}: add a migration, run `tailrace up`")
        return writer, _searched(group, writer, self._trial(writer, columns))

    def _columns_of(self, table: str) -> dict[str, str]:
        if table not in self._columns:
            self._columns[table] = self._writer.columns(table)
        if not self._columns[table]:
            raise PartUnreachable(f"the table {table}", "the warehouse", "`tailrace up` creates it")
        return self._columns[table]

    def _trial(self, writer: Writer, columns: dict[str, str]) -> Trial:
        def engine_says(messages: Sequence[Message]) -> str | None:
            container = splice(writer.header, _NOBODY, messages, self._new_sync())
            return self._writer.objection(columns, writer.columns, container)

        return engine_says


def _searched(group: Group, writer: Writer, trial: Trial) -> list[Objection]:
    """One search finds so many and no more: searched again until nothing is found."""
    left, objections = list(group.messages), []
    while found := search(left, writer, trial, thorough=True):
        objections += [Objection(each.offset, each.letter.reason, each.letter.error) for each in found]
        offsets = {each.offset for each in found}
        left = [message for message in left if message.offset() not in offsets]
    return objections


def _all(group: Group, reason: str, error: str) -> list[Objection]:
    return [Objection(message.offset(), reason, error) for message in group.messages]
