"""From Kafka into the archive: one process, all partitions, from where the archive ends.

Nothing is kept but the archive itself. A partition's records are gathered from the end of its chain on, written as files, and
appended as one entry; whoever was second to append drops what he gathered and goes on from the new end. So an archiver may be
killed at any moment, and any number may run at once: each offset is archived once.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from schemas.envelope import Source
from schemas.errors import PartUnreachable
from stream_processors.archive.config import FileLimits
from stream_processors.archive.container import ARCHIVE_RUN, archived_schema, write, write_raw
from stream_processors.archive.kafka_log import ArchivedLog
from stream_processors.archive.ledger import ArchivedFile, Entry, Ledger, file_name, folder
from stream_processors.archive.metrics import ArchiveMetrics
from stream_processors.archive.object_store import ObjectStore
from stream_processors.warehouse.batch import MESSAGE_BYTES
from stream_processors.warehouse.dead_letters import fault
from stream_processors.warehouse.records import Message, OffsetRanges, Place
from stream_processors.warehouse.splice import SYNC_BYTES, Group, sort_batch
from stream_processors.warehouse.writer_schemas import Misfit, WriterSchemas

OWNER_BYTES = 16
POLL_S = 0.2

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gathering:
    """A partition's records from the end of its chain on. All below `reached` are here, or hold no record."""

    topic_id: UUID
    ledger: Ledger
    first: int
    reached: int
    lost: tuple[tuple[int, int], ...] = ()
    messages: list[Message] = field(default_factory=list)
    bytes: int = 0
    opened_s: float = 0.0
    swept: bool = False

    def take(self, messages: list[Message], now_s: float) -> None:
        if messages[0].offset() < self.reached:
            messages = [message for message in messages if message.offset() >= self.reached]
        if not messages:
            return
        if not self.messages:
            self.opened_s = now_s
        self.messages += messages
        self.bytes += sum(map(len, messages)) + MESSAGE_BYTES * len(messages)
        self.reached = max(self.reached, messages[-1].offset() + 1)

    def cut(self, rows: int) -> tuple[list[Message], int]:
        """The first `rows` records, and the end of the range that they make."""
        if rows >= len(self.messages):
            return self.messages, self.reached
        return self.messages[:rows], self.messages[rows].offset()

    def begin(self, first: int) -> None:
        """All below `first` is archived, by whomever."""
        self.messages = [message for message in self.messages if message.offset() >= first]
        self.bytes = sum(map(len, self.messages)) + MESSAGE_BYTES * len(self.messages)
        self.first, self.reached, self.lost = first, max(first, self.reached), ()


class Archiver:
    """For one thread. Raises PartUnreachable, ArchiveDamaged, Retryable (of the registry): then make another one, and go on."""

    def __init__(  # noqa: PLR0913, PLR0917 - its edges
        self,
        kafka: ArchivedLog,
        store: ObjectStore,
        schemas: WriterSchemas,
        topics: Mapping[str, str],
        limits: FileLimits,
        metrics: ArchiveMetrics,
        tell: Callable[[Entry], None],
    ) -> None:
        self._kafka, self._store, self._schemas = kafka, store, schemas
        self._topics, self._limits, self._metrics, self._tell = topics, limits, metrics, tell
        self._gathering = self._begun()
        kafka.start({place: each.reached for place, each in self._gathering.items()})

    def follow(self, stopped: Callable[[], bool], now_s: Callable[[], float]) -> None:
        """Archive what comes until `stopped`; what is gathered by then stays in Kafka."""
        while not stopped():
            self._fetch(now_s())
            for place, each in self._gathering.items():
                self._store_full(place, each)
                if each.messages and now_s() - each.opened_s >= self._limits.age_s:
                    self._append(place, each)
            self._make_room()

    def catch_up(self, stopped: Callable[[], bool], now_s: Callable[[], float], progress: Callable[[int, int], None]) -> None:
        """Archive all that was in Kafka at the start. `progress` gets (offsets done, offsets to do)."""
        targets = self._kafka.metadata.ends(self._gathering)
        starts = {place: each.reached for place, each in self._gathering.items()}
        total = sum(max(0, targets[place] - starts[place]) for place in targets)
        for place in self._gathering:
            self._finish(place, targets)
        while self._gathering and not stopped():
            self._fetch(now_s())
            for place in list(self._gathering):
                self._store_full(place, self._gathering[place])
                self._finish(place, targets)
            self._make_room()
            left = sum(max(0, targets[place] - each.first) for place, each in self._gathering.items())
            progress(total - left, total)

    def _begun(self) -> dict[Place, Gathering]:
        """Each partition at the end of its chain; what Kafka has let go of since then is lost to the archive, and noted so."""
        found = self._kafka.metadata.topics(self._topics)
        places = {Place(name, number): topic.topic_id for name, topic in found.items() for number in topic.partitions}
        starts, ends = self._kafka.metadata.starts(places), self._kafka.metadata.ends(places)
        begun = {}
        for place, topic_id in places.items():
            ledger = Ledger(self._store, folder(place.topic, topic_id, place.partition))
            first, start = ledger.end(), starts[place]
            if first > ends[place]:
                what = f"its log ends at {ends[place]}, and {first} offsets are archived: the broker has lost records"
                raise PartUnreachable("Kafka", str(place), what)
            lost = ((first, start),) if start > first else ()
            begun[place] = Gathering(topic_id, ledger, first, max(first, start), lost)
        return begun

    def _fetch(self, now_s: float) -> None:
        for fetched in self._kafka.consume(POLL_S):
            each = self._gathering.get(fetched.place)
            if each is None:
                continue
            if fetched.records:
                each.take(list(fetched.records), now_s)
            else:
                each.reached = max(each.reached, fetched.end)

    def _store_full(self, place: Place, each: Gathering) -> None:
        while len(each.messages) >= self._limits.rows or each.bytes >= self._limits.bytes:
            self._append(place, each)

    def _finish(self, place: Place, targets: Mapping[Place, int]) -> None:
        """Store the rest of a partition that was read to its target, and leave it."""
        each = self._gathering[place]
        if each.reached < targets[place]:
            return
        while each.messages or each.lost or each.first < targets[place]:
            self._append(place, each)
        self._kafka.stop(place)
        self._gathering = {other: kept for other, kept in self._gathering.items() if other != place}

    def _make_room(self) -> None:
        while sum(each.bytes for each in self._gathering.values()) > self._limits.bytes_in_hand:
            place = max(self._gathering, key=lambda place: self._gathering[place].bytes)
            self._append(place, self._gathering[place])

    def _append(self, place: Place, each: Gathering) -> None:
        """Make an entry of what was gathered. Fetching is by name, so the topic's id is looked at after the fetch."""
        messages, end = each.cut(self._limits.rows)
        if self._kafka.topic_id(place.topic) != each.topic_id:
            raise PartUnreachable(
                "Kafka", str(place), "the topic was made anew while it was read; the next try begins with the new one"
            )
        entry = self._stored(place, each, messages, end)
        if each.ledger.append(entry):
            self._metrics.archived(entry)
            self._tell(entry)
            if not each.swept:
                each.ledger.sweep(entry)
                each.swept = True
            each.begin(end)
            return
        self._metrics.second(place.topic)
        for file in entry.files:
            self._store.delete(f"{entry.folder}/{file.name}")
        each.begin(each.ledger.end())

    def _stored(self, place: Place, each: Gathering, messages: list[Message], end: int) -> Entry:
        """The entry, whose files are stored when this returns."""
        ordered = sort_batch(messages, OffsetRanges())
        raw = [(message, error.reason) for message, error in ordered.misframed]
        files = []
        for group in ordered.groups:
            good, refused = self._examined(group, self._topics[place.topic])
            raw += refused
            if good:
                files.append(self._put(each, (each.first, end), group.schema_id, good, self._written(each, place, group, good)))
        if raw:
            raw.sort(key=lambda found: found[0].offset())
            files.append(self._put(each, (each.first, end), None, [message for message, _ in raw], write_raw(raw)))
        begun = each.lost[-1][1] if each.lost else each.first
        holes = () if len(messages) == end - begun else tuple(_held(messages).missing(begun, end))
        return Entry(place.topic, each.topic_id, place.partition, each.first, end, tuple(files), each.lost, holes)

    def _examined(self, group: Group, record: str) -> tuple[list[Message], list[tuple[Message, str]]]:
        """Which of a group are data of their topic, and which are not, with the reason."""
        writer = self._schemas.of_record(group.schema_id, record)
        if isinstance(writer, Misfit):
            return [], [(message, writer.reason) for message in group.messages]
        good: list[Message] = []
        raw: list[tuple[Message, str]] = []
        for message in group.messages:
            told = fault(message.value() or b"", writer)
            if told is None:
                good.append(message)
            else:
                raw.append((message, told[0]))
        return good, raw

    def _written(self, each: Gathering, place: Place, group: Group, messages: list[Message]) -> bytes:
        writer = self._schemas.get(group.schema_id)
        assert writer is not None, "it was examined under this writer"
        source = Source(secrets.token_bytes(OWNER_BYTES), each.topic_id, place.partition, group.schema_id, ARCHIVE_RUN)
        return write(archived_schema(writer.header), source, messages, secrets.token_bytes(SYNC_BYTES))

    def _put(
        self, each: Gathering, span: tuple[int, int], schema_id: int | None, messages: list[Message], content: bytes
    ) -> ArchivedFile:
        times_ms = [message.timestamp()[1] for message in messages]
        file = ArchivedFile(
            name=file_name(*span, schema_id, content),
            schema_id=schema_id,
            rows=len(messages),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            first=messages[0].offset(),
            end=messages[-1].offset() + 1,
            oldest_ms=min(times_ms),
            newest_ms=max(times_ms),
        )
        self._store.put_new(f"{each.ledger.folder}/{file.name}", content)
        return file


def _held(messages: list[Message]) -> OffsetRanges:
    return OffsetRanges((message.offset(), message.offset() + 1) for message in messages)
