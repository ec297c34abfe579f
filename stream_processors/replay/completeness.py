"""Whether a run has every record of its manifest, once: its coordinates against the ranges, and what is missing against the log.

An offset without a record (a transaction's marker, an aborted or compacted one) is known by asking the log: a reader with
read_committed, set at the first missing offset, is given a record past the last. One that the log no longer reaches is unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stream_processors.archive.reading import ArchiveReader
from stream_processors.audit.errors import Shifted
from stream_processors.audit.kafka_log import KafkaLog, LogReader
from stream_processors.audit.spans import Span, Spans, Tally
from stream_processors.replay.manifest import Manifest, PartitionRange, Piece, PieceSource
from stream_processors.replay.present import present
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import OffsetRanges, Place


@dataclass(frozen=True, slots=True)
class PartitionFinding:
    """Of one partition. `strays` are in the run and not in its manifest."""

    partition: int
    wanted: int
    present: int
    copies: int
    holes: Spans
    lost: Spans
    unknown: Spans
    strays: Spans

    @property
    def sound(self) -> bool:
        return not (self.copies or self.lost.count or self.unknown.count or self.strays.count)


@dataclass(frozen=True, slots=True)
class Completeness:
    """Raises PartUnreachable, Retryable where a part does not answer."""

    writer: ClickHouseWriter
    kafka: KafkaLog
    archive: ArchiveReader | None

    def of(self, manifest: Manifest) -> Iterator[PartitionFinding]:
        for each in manifest.ranges:
            yield self._of_partition(manifest, each)

    def _of_partition(self, manifest: Manifest, wanted: PartitionRange) -> PartitionFinding:
        here = present(self.writer, manifest.run, manifest.run_table, manifest.topic_id, wanted.partition)
        holes, lost, unknown = Tally(), Tally(), Tally()
        reader = self.kafka.read(Place(manifest.topic, wanted.partition))
        for piece in wanted.pieces:
            for span in (Span(*gap) for gap in here.ranges.missing(piece.first, piece.end)):
                for part, tally in self._judged(manifest, wanted.partition, piece, span, (reader, holes, lost, unknown)):
                    tally.add(part)
        strays = Tally()
        pieces = OffsetRanges((piece.first, piece.end) for piece in wanted.pieces)
        for first, end in here.ranges:
            for stray in pieces.missing(first, end):
                strays.add(Span(*stray))
        found = here.ranges.count() - strays.spans().count
        return PartitionFinding(
            wanted.partition, wanted.offsets, found, here.copies, holes.spans(), lost.spans(), unknown.spans(), strays.spans()
        )

    def _judged(
        self, manifest: Manifest, partition: int, piece: Piece, span: Span, into: tuple[LogReader, Tally, Tally, Tally]
    ) -> Iterator[tuple[Span, Tally]]:
        """A missing span in parts, each with what it is."""
        reader, holes, lost, unknown = into
        if piece.source is PieceSource.ARCHIVE and self.archive is not None:
            offsets: Iterator[int] = (message.offset() for message in self.archive.messages(manifest.topic_id, partition, *span))
        elif piece.source is PieceSource.KAFKA:
            offsets = _offsets(reader, span)
        else:
            yield span, unknown
            return
        at = span.first
        try:
            for offset in offsets:
                if offset > at:
                    yield Span(at, offset), holes
                yield Span(offset, offset + 1), lost
                at = offset + 1
        except Shifted:
            yield Span(at, span.end), unknown
            return
        if at < span.end:
            yield Span(at, span.end), holes


def _offsets(reader: LogReader, span: Span) -> Iterator[int]:
    """The offsets within a span at which the log has records."""
    at = span.first
    while at < span.end and (found := reader.next_record(at)) is not None and found.offset < span.end:
        yield found.offset
        at = found.offset + 1
