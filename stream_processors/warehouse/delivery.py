"""One batch on its way in: examined, then its dead letters buried and published, then its rows inserted, each under the fence.

Each method is one step of protocol.py and makes at most one insert. It returns only after a clean answer; anything else leaves by
an exception, and then nothing is known: the partition must be owned again before a further insert.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.envelope import Source
from schemas.errors import PartUnreachable
from schemas.events import DeadLetter
from stream_processors.warehouse.batch import Batch
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letters import Trial, reject, search, search_end
from stream_processors.warehouse.errors import WarehouseBehind
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.records import LIVE, Destination, Message, Ownership, Place, Rejection
from stream_processors.warehouse.splice import DAY_MS, Group, sort_batch, splice, splice_data
from stream_processors.warehouse.suspicion import Look
from stream_processors.warehouse.writer_schemas import Misfit, Writer, WriterSchemas, make_writer

Prepare = Callable[[list[Group]], tuple[list[Group], list[Rejection]]]
"""What becomes of a batch's groups before they are examined, and what could not be made ready."""


class LetterTopic(Protocol):
    """Whom the dead letters are told to, at least once. Raises BrokerTrouble."""

    def publish(self, topic_id: UUID, place: Place, rejections: Sequence[Rejection]) -> None: ...


@dataclass(slots=True)
class Plan:
    """What an examined batch comes to. Each element of `burials` and `inserts` is one insert, and leaves when it is in."""

    rejections: list[Rejection]
    burials: list[list[Rejection]]
    inserts: list[tuple[Writer, list[Message]]]


class Delivery:
    """Delivers batches. Threads may share it."""

    def __init__(  # noqa: PLR0913 - the edges of one step each
        self,
        writer: ClickHouseWriter,
        schemas: WriterSchemas,
        dead_letters: LetterTopic,
        metrics: SinkMetrics,
        new_sync: Callable[[], bytes],
        *,
        into: Destination = LIVE,
        prepare: Prepare | None = None,
    ) -> None:
        self._writer, self._schemas, self._topic = writer, schemas, dead_letters
        self._metrics, self._new_sync, self._into, self._prepare = metrics, new_sync, into, prepare
        self._columns = {table: self._columns_of(table) for table in into.tables.values()}
        self._letter_codec = Codec(DeadLetter)
        self._letter_writer = make_writer(0, contract("DeadLetter").newest.schema)

    def examine(self, batch: Batch, ownership: Ownership, record: str, look: Look) -> Plan:
        """What is to be inserted where, leaving out what is accounted for already."""
        ordered = sort_batch(batch.messages, ownership.present)
        rejections = [reject(message, 0, error.reason, str(error)) for message, error in ordered.misframed]
        inserts: list[tuple[Writer, list[Message]]] = []
        groups = ordered.groups
        if self._prepare is not None:
            groups, refused = self._prepare(groups)
            rejections += refused
        for group in groups:
            writer, refused = self._examine(group, record, ownership, look)
            rejections += refused
            if writer is not None and (messages := _without(group.messages, refused)):
                inserts.append((writer, messages))
        return Plan(rejections, _burials(rejections), inserts)

    def bury(self, plan: Plan, ownership: Ownership) -> None:
        """Insert the plan's next dead letters into their table."""
        letters = plan.burials[0]
        source = Source(ownership.owner, ownership.topic_id, ownership.place.partition, letters[0].schema_id, self._into.run)
        data = [(letter.offset, letter.kafka_time_ms, self._letter_codec.encode_datum(letter.letter)) for letter in letters]
        container = splice_data(self._letter_writer.header, source, data, self._new_sync())
        self._insert(self._into.letters, self._letter_writer, container, ownership)
        del plan.burials[0]
        self._metrics.buried(ownership.place, [letter.letter.reason for letter in letters])

    def publish(self, plan: Plan, ownership: Ownership) -> None:
        """Send the plan's dead letters to their topic, which answers before we go on."""
        self._topic.publish(ownership.topic_id, ownership.place, plan.rejections)

    def insert(self, plan: Plan, ownership: Ownership, record: str) -> None:
        """Insert the plan's next rows."""
        writer, messages = plan.inserts[0]
        with self._metrics.spending("splice"):
            container = self._spliced(writer, messages, ownership)
        self._insert(self._into.tables[record], writer, container, ownership)
        del plan.inserts[0]
        self._metrics.inserted(ownership.place, len(messages))

    def _examine(self, group: Group, record: str, ownership: Ownership, look: Look) -> tuple[Writer | None, list[Rejection]]:
        writer = self._schemas.of_record(group.schema_id, record)
        if isinstance(writer, Misfit):
            return None, [reject(message, group.schema_id, writer.reason, writer.error) for message in group.messages]
        table = self._into.tables[record]
        self._refuse_newer(writer, table)
        if look is Look.NOT:
            return writer, search_end(group.messages, writer)
        trial = self._trial(writer, table, ownership)
        return writer, search(group.messages, writer, trial, thorough=look is Look.WITH_THE_ENGINE)

    def _refuse_newer(self, writer: Writer, table: str) -> None:
        """A field without a column waits for its migration; the table is looked at again before it is believed to lack it."""
        if not self._lacking(writer, table):
            return
        self._columns[table] = self._columns_of(table)
        if lacking := self._lacking(writer, table):
            columns = ", ".join(lacking)
            raise WarehouseBehind(
                f"schema {writer.schema_id} has {columns}, which {table} lacks: add a migration, run `tailrace up`"
            )

    def _lacking(self, writer: Writer, table: str) -> list[str]:
        return [name for name in writer.columns if name not in self._columns[table]]

    def _columns_of(self, table: str) -> dict[str, str]:
        columns = self._writer.columns(table)
        if not columns:
            raise PartUnreachable(f"the table {table}", "the warehouse", "`tailrace up` creates it")
        return columns

    def _trial(self, writer: Writer, table: str, ownership: Ownership) -> Trial:
        def engine_says(messages: Sequence[Message]) -> str | None:
            container = self._spliced(writer, messages, ownership)
            if self._into.trial is not None:
                return self._writer.refusal(self._into.trial, writer.columns, container)
            return self._writer.objection(self._columns[table], writer.columns, container)

        return engine_says

    def _insert(self, table: str, writer: Writer, container: bytes, ownership: Ownership) -> None:
        comment = self._into.write_comment(ownership.topic_id, ownership.place.partition)
        with self._metrics.insert(table, len(container)):
            self._writer.insert(table, writer.columns, container, comment)

    def _spliced(self, writer: Writer, messages: Sequence[Message], ownership: Ownership) -> bytes:
        source = Source(ownership.owner, ownership.topic_id, ownership.place.partition, writer.schema_id, self._into.run)
        return splice(writer.header, source, messages, self._new_sync())


def _burials(rejections: list[Rejection]) -> list[list[Rejection]]:
    """One insert for each (schema id, day), as with rows: an insert that touches one partition of its table is all or nothing."""
    groups: dict[tuple[int, int], list[Rejection]] = defaultdict(list)
    for rejection in rejections:
        groups[rejection.schema_id, rejection.kafka_time_ms // DAY_MS].append(rejection)
    return list(groups.values())


def _without(messages: list[Message], refused: Iterable[Rejection]) -> list[Message]:
    offsets = {rejection.offset for rejection in refused}
    return [message for message in messages if message.offset() not in offsets] if offsets else messages
