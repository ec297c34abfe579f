"""Planning: from what a person asks to a manifest. Reads metadata and a few records, and changes nothing.

Times become offsets of each partition, the ends are fixed, what Kafka has let go of is looked for in the archive or named as
missing. What Kafka no longer tells (which offsets a time stood for, below the log's beginning) the archive or the live table is
asked.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from uuid import UUID

import schemas as contracts_package
from schemas.contracts import contract
from schemas.errors import PartUnreachable
from schemas.topics import Topic, subject, topic_name
from stream_processors.archive.reading import ArchiveReader
from stream_processors.replay import transform as transforms
from stream_processors.replay.bounds import At, Bound, Edge, Offset, Offsets, chosen, refuse_reversed
from stream_processors.replay.errors import Gone, ReplayRefused, WrongQuestion
from stream_processors.replay.log_reader import LogReader
from stream_processors.replay.manifest import (
    Asked,
    Estimate,
    Manifest,
    Missing,
    PartitionRange,
    Piece,
    PieceSource,
    Transform,
)
from stream_processors.replay.runs import Run, RunStore, State
from stream_processors.replay.tables import Definition, computed_columns, definition_of
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import OffsetRanges, Route
from stream_processors.warehouse.writer_schemas import WriterSchemas

SAMPLED_PARTITIONS = 8
SAMPLED_RECORDS = 200
"""Read at the middle of each of so many pieces, to know how large records are."""
ROWS_PER_S = 100_000
"""Assumed while no run of the table has been measured."""
RECORD_BYTES = 300
"""Assumed where none can be read."""

_OLDER = """
SELECT countIf(_kafka_time >= fromUnixTimestamp64Milli({time_ms:Int64})) AS inside,
    minIf(_offset, _kafka_time >= fromUnixTimestamp64Milli({time_ms:Int64})) AS first, count() AS known
FROM (SELECT _topic_id, _partition, _offset, _kafka_time FROM %(table)s
      UNION ALL SELECT _topic_id, _partition, _offset, _kafka_time FROM dead_letters)
WHERE _topic_id = {topic_id:UUID} AND _partition = {partition:Int32} AND _offset < {below:Int64} AND _offset >= {from:Int64}
FORMAT TabSeparated
"""


class PlanSource(StrEnum):
    """Where offsets are taken from; `auto` takes from the archive what Kafka has let go of."""

    KAFKA = "kafka"
    ARCHIVE = "archive"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned. `first` and `end` also stand in the manifest as they were typed, in `asked`."""

    topic: Topic
    first: Bound
    end: Bound
    asked: Asked
    table: str | None = None
    select: str | None = None
    transform: str | None = None
    derive: str | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of one partition: what was asked for, and what Kafka's log holds."""

    partition: int
    first: int
    end: int
    log_start: int


@dataclass(frozen=True, slots=True)
class Planner:
    """Raises WrongQuestion, ReplayRefused; PartUnreachable and Retryable where a part does not answer."""

    reader: LogReader
    writer: ClickHouseWriter
    schemas: WriterSchemas
    store: RunStore
    archive: ArchiveReader | None
    prefix: str
    new_run: Callable[[], str]

    def plan(self, question: Question) -> Manifest:
        """A manifest, which is not saved yet."""
        refuse_reversed(question.first, question.end)
        route = Route.of(question.topic)
        live = definition_of(self.writer, question.table or route.table)
        _refuse_other_columns(route, live)
        if question.select is not None:
            computed_columns(self.writer, live, question.select)
        transform = None if question.transform is None else transforms.find(question.transform)[1]
        topic_id, partitions = self._topic(question)
        ranges = self._ranges(question, topic_id, partitions, route.table)
        manifest = Manifest(
            run=self.new_run(),
            topic=topic_name(self.prefix, question.topic),
            topic_id=topic_id,
            record=route.record,
            table=live.table,
            ranges=ranges,
            asked=question.asked,
            schema_ids=self.schemas.ids_of(subject(self.prefix, question.topic)),
            table_sha256=live.sha256,
            code=code_version(),
            estimate=self._estimate(ranges, live.table, transform),
            select=question.select,
            transform=transform,
            archive=self.archive.url if self.archive is not None and _archived(ranges) else None,
            derive=question.derive,
        )
        _refuse_nothing(manifest)
        return manifest

    def _topic(self, question: Question) -> tuple[UUID, Sequence[int]]:
        name = topic_name(self.prefix, question.topic)
        described = self.reader.describe()
        if described is None:
            raise PartUnreachable("the topic", name, "there is none of this name; `tailrace up` creates it")
        topic_id, partitions = described
        wanted = chosen(question.first, question.end)
        if wanted is not None and (unknown := wanted - set(partitions)):
            raise WrongQuestion(f"{name} has no partition {', '.join(map(str, sorted(unknown)))}")
        return topic_id, partitions if wanted is None else sorted(wanted)

    def _ranges(self, question: Question, topic_id: UUID, partitions: Sequence[int], table: str) -> tuple[PartitionRange, ...]:
        starts, ends = self.reader.starts(partitions), self.reader.ends(partitions)
        archived = {each: OffsetRanges(self._archived(question, topic_id, each)) for each in partitions}
        lasts = self._resolve(question.end, ends, ends)
        firsts = self._resolve(question.first, starts, ends)
        ranges = []
        for each in partitions:
            first = self._reached_back(question, topic_id, table, each, (firsts[each], starts[each]), archived[each])
            _refuse_beyond(each, firsts[each], lasts[each], ends[each])
            if first < lasts[each]:
                stretch = Stretch(each, first, lasts[each], starts[each])
                ranges.append(cover(stretch, archived[each], PlanSource(question.asked.source)))
        return tuple(ranges)

    def _archived(self, question: Question, topic_id: UUID, partition: int) -> Iterable[tuple[int, int]]:
        if question.asked.source == PlanSource.KAFKA:
            return ()
        if self.archive is None:
            raise WrongQuestion(f"--source {question.asked.source}: no archive is known; set TAILRACE_ARCHIVE_URL")
        return self.archive.ranges(topic_id, partition)

    def _resolve(self, bound: Bound, edges: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        match bound:
            case Edge():
                return dict(edges)
            case Offset(offset):
                return dict.fromkeys(edges, offset)
            case Offsets(by_partition):
                return dict(by_partition)
            case At(time_ms):
                found = self.reader.offsets_at(edges, time_ms)
                return {each: ends[each] if offset < 0 else min(offset, ends[each]) for each, offset in found.items()}

    def _reached_back(
        self, question: Question, topic_id: UUID, table: str, partition: int, kafka: tuple[int, int], archived: OffsetRanges
    ) -> int:
        """The first offset that is asked for, which Kafka may no longer know."""
        first, log_start = kafka
        match question.first:
            case Edge():
                return min([first, *(start for start, _ in archived)])
            case At(time_ms) if first <= log_start and log_start > 0:
                return self._older(topic_id, table, partition, time_ms, log_start)
            case _:
                return first

    def _older(self, topic_id: UUID, table: str, partition: int, time_ms: int, log_start: int) -> int:
        """What stood for a time before Kafka's log began, by the archive, and by the live table for what that does not reach."""
        found = self.archive.offset_at(topic_id, partition, time_ms) if self.archive is not None else None
        known = OffsetRanges(() if self.archive is None else self.archive.ranges(topic_id, partition))
        gap = next(iter(known.missing(0, log_start)), None)
        if found is not None and found > 0 and (found - 1) in known:
            return found
        asked = {"topic_id": topic_id, "partition": partition, "time_ms": time_ms, "below": log_start, "from": 0}
        answer = self.writer.query(_OLDER % {"table": table}, {name: str(value) for name, value in asked.items()})
        inside, first, rows = map(int, answer.split())
        candidates = [] if found is None else [found]
        if inside:
            return min([first, *candidates])
        if rows:
            return min([log_start, *candidates])
        return min([0 if gap is None else gap[0], *candidates])

    def _estimate(self, ranges: Sequence[PartitionRange], table: str, transform: Transform | None) -> Estimate:
        rows = sum(each.offsets for each in ranges)
        sizes = [size for each in ranges[:SAMPLED_PARTITIONS] for size in self._sizes(each)]
        average = sum(sizes) / len(sizes) if sizes else RECORD_BYTES
        return Estimate(rows, int(rows * average), round(rows / self._rate(table, computed=transform is not None), 1))

    def _sizes(self, wanted: PartitionRange) -> list[int]:
        piece = next((piece for piece in wanted.pieces if piece.source is PieceSource.KAFKA), None)
        if piece is None:
            return []
        middle = (piece.first + piece.end) // 2
        try:
            return [len(record) for record in islice(self.reader.records(wanted.partition, middle), SAMPLED_RECORDS)]
        except Gone:
            return []

    def _rate(self, table: str, *, computed: bool) -> float:
        """Rows a second of the last run into the table that was filled, of those that compute in Python or those that do not."""
        runs = [run for run in self.store.all() if run.manifest.table == table]
        rates = [rate for run in runs if (run.manifest.transform is not None) == computed and (rate := _measured(run))]
        return rates[-1] if rates else ROWS_PER_S / (10 if computed else 1)


def cover(stretch: Stretch, archived: OffsetRanges, source: PlanSource) -> PartitionRange:
    """A stretch in pieces by where they are read; with `auto` the archive gives what Kafka has let go of."""
    first, end = stretch.first, stretch.end
    auto = min(max(first, stretch.log_start), end)
    border = {PlanSource.KAFKA: first, PlanSource.ARCHIVE: end, PlanSource.AUTO: auto}[source]
    pieces = [Piece(PieceSource.ARCHIVE, *span) for span in _within(archived, first, border)]
    if (kafka_first := max(border, stretch.log_start)) < end:
        pieces.append(Piece(PieceSource.KAFKA, kafka_first, end))
    readable = OffsetRanges((piece.first, piece.end) for piece in pieces)
    reason = _reason(source, stretch.log_start)
    missing = tuple([Missing(*span, reason) for span in readable.missing(first, end)])
    return PartitionRange(stretch.partition, first, end, tuple(pieces), missing)


def _reason(source: PlanSource, log_start: int) -> str:
    expired = f"expired: Kafka's log begins at {log_start}"
    return {PlanSource.KAFKA: expired, PlanSource.ARCHIVE: "not in the archive"}.get(source, f"{expired}; not in the archive")


def _within(ranges: OffsetRanges, first: int, end: int) -> list[tuple[int, int]]:
    cut = ((max(start, first), min(stop, end)) for start, stop in ranges)
    return [(start, stop) for start, stop in cut if start < stop]


def _archived(ranges: Iterable[PartitionRange]) -> bool:
    return any(piece.source is PieceSource.ARCHIVE for each in ranges for piece in each.pieces)


def _measured(run: Run) -> float | None:
    filled = run.last(State.FILLED)
    if filled is None or not filled.detail.get("seconds") or not filled.detail.get("rows"):
        return None
    return float(filled.detail["rows"]) / float(filled.detail["seconds"])


def _refuse_other_columns(route: Route, live: Definition) -> None:
    fields = [field["name"] for field in contract(route.record).newest.schema["fields"]]
    if lacking := [name for name in fields if name not in live.fields]:
        raise WrongQuestion(f"{live.table} has no column {', '.join(lacking)}: {route.record}s cannot go there")


def _refuse_beyond(partition: int, first: int, end: int, log_end: int) -> None:
    if end > log_end:
        raise WrongQuestion(f"--to: partition {partition} ends at {log_end}, before {end}: only what has arrived can be replayed")
    if first > end:
        raise WrongQuestion(f"--from is behind --to in partition {partition}: [{first}, {end}) is reversed")


def _refuse_nothing(manifest: Manifest) -> None:
    if manifest.missing and not manifest.asked.allow_missing:
        gaps = [
            f"  partition {each.partition}: {gap.first}–{gap.end - 1} ({gap.reason})"
            for each in manifest.ranges
            for gap in each.missing
        ]
        remedy = "--allow-missing leaves them out, --source auto takes them from the archive, a later --from begins behind them"
        raise ReplayRefused("\n".join([f"{manifest.missing} offsets cannot be had:", *gaps, remedy]))
    if not manifest.offsets:
        raise ReplayRefused("nothing was taken by Kafka in that stretch: there is nothing to replay")


def code_version() -> str:
    """The version, and the sum of the sources that decide what rows a record becomes."""
    digest = hashlib.sha256()
    root = Path(contracts_package.__path__[0]).parent
    for folder in ("schemas", "stream_processors"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".sql", ".avsc"}:
                digest.update(path.read_bytes())
    return f"{version('tailrace')}+{digest.hexdigest()[:12]}"
