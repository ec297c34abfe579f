"""What Kafka holds of a partition against what the warehouse has, offset by offset, without looking at each. Pure.

Every offset below the highest that anybody knows of is present (a row, a dead letter) or absent. The absent ones are:

- `recorded`: `ingest_gaps` says that they will never be here, and why. A loss that somebody has been told of.
- `pending`: at or past the group's committed offset, and below the log's end. Nobody has claimed them yet.
- `missing`: claimed, and Kafka still shows a record there. A loss that can be mended: the record is there.
- `holes`: claimed, and Kafka shows no record there: a transaction's marker, an aborted record, one that compaction took. No loss.
- `unclaimed`: Kafka no longer holds them, and they are older than all that the warehouse has ever known of the partition.
- `unaccounted`: Kafka no longer holds them, nobody recorded that, and nobody can say any more whether records were there.

What is not proven: that a hole never was a record (compaction may have taken what the warehouse had lost before); that no copy
was ever there (ReplacingMergeTree's merges heal copies in time; those that are left are counted); that a row is the record at its
coordinates (only coordinates are compared, so a log that was cut and grew again looks whole).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from stream_processors.audit.spans import Span, Spans, Tally, cut, joined, parted

BLOCK_OFFSETS = 65_536
"""The warehouse is asked for counts by blocks of so many offsets; only blocks with holes inside are looked at more closely."""

BLOCKS_A_LOOK_MAX = 16
"""Looked at with one question: its answer has half as many spans as these blocks have offsets, at the worst."""


class Found(NamedTuple):
    """A record that Kafka shows."""

    offset: int
    kafka_time_ms: int


NextRecord = Callable[[int], Found | None]
"""The first record that Kafka shows at or past an offset, None where there is none any more. Asked with rising offsets."""


class Absence(StrEnum):
    PENDING = "pending"
    MISSING = "missing"
    HOLES = "holes"
    RECORDED = "recorded"
    UNCLAIMED = "unclaimed"
    UNACCOUNTED = "unaccounted"


@dataclass(frozen=True, slots=True)
class Block:
    """What the warehouse has in one block of offsets, counted without FINAL. Times are Kafka's, in milliseconds."""

    number: int
    first: int
    last: int
    present: int
    """Different coordinates; so are `dead_letters`, `repaired` and `conflicts`."""
    rows: int
    copies: int
    """Rows and dead letters beyond the first at their coordinates."""
    dead_letters: int
    repaired: int
    """Dead letters that are also a row, brought in by a replay."""
    conflicts: int
    """Coordinates that are a dead letter and a row that no replay has brought in."""
    first_ms: int
    last_ms: int

    @property
    def dense(self) -> bool:
        return self.last - self.first + 1 == self.present


LookInto = Callable[[Sequence[Block]], Iterable[Span]]
"""The absent spans between the first and the last coordinate of some neighbouring blocks."""


@dataclass(frozen=True, slots=True)
class Log:
    """What Kafka says of a partition. `end` is the last stable offset, `committed` the group's, if meant for this topic."""

    start: int
    end: int
    committed: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A row of `ingest_gaps`. `end` is None where nobody knows it."""

    topic: str
    topic_id: UUID
    partition: int
    reason: str
    first: int
    end: int | None
    detail: str
    recorded_ms: int


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """One partition of one topic id. `log` is None where Kafka no longer has that topic."""

    topic: str
    topic_id: UUID
    partition: int
    log: Log | None
    rows: int
    dead_letters: int
    repaired: int
    copies: int
    conflicts: int
    beyond_end: int
    """Coordinates in the warehouse that lie past the log's end: Kafka has lost what it had given out."""
    pending: Spans
    missing: Spans
    holes: Spans
    recorded: Spans
    unclaimed: Spans
    unaccounted: Spans
    tail_unknown: bool
    """The topic is gone, and nobody recorded that what followed its last known offset is lost."""
    oldest_pending_ms: int | None
    """Kafka's time of the first record that may not be in yet; None where all are."""

    @property
    def sound(self) -> bool:
        """All that Kafka ever held is in once, is waiting, or is explained."""
        wrong = self.missing.count + self.unaccounted.count + self.copies + self.conflicts + self.beyond_end
        return not wrong and not self.tail_unknown

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]" + ("" if self.log else f" of the former topic {self.topic_id}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a partition before its absent offsets are judged. `blocks` are in order, `gaps` its own."""

    topic: str
    topic_id: UUID
    partition: int
    log: Log | None
    blocks: Sequence[Block]
    gaps: Sequence[Gap]

    @property
    def recorded(self) -> tuple[Span, ...]:
        """What `gaps` say is lost. One without an end reaches as far as Kafka can no longer be asked."""
        reach = self.log.start if self.log else self.top
        return tuple(joined(sorted(Span(gap.first, reach if gap.end is None else gap.end) for gap in self.gaps)))

    @property
    def first_known(self) -> int:
        """The lowest offset that the warehouse knows anything of; `top` where it knows nothing."""
        firsts = [block.first for block in self.blocks[:1]] + [gap.first for gap in self.gaps]
        return min(firsts, default=self.top)

    @property
    def top(self) -> int:
        """The end of what anybody knows of."""
        log_ends = (self.log.start, self.log.end, self.log.committed or 0) if self.log else ()
        present_ends = [block.last + 1 for block in self.blocks[-1:]]
        recorded_ends = [gap.end or gap.first for gap in self.gaps]
        return max((*log_ends, *present_ends, *recorded_ends), default=0)


def judge(evidence: Evidence, look_into: LookInto, next_record: NextRecord) -> PartitionReport:
    """The verdict on one partition. Raises what `look_into` and `next_record` raise."""
    tallies = {verdict: Tally() for verdict in Absence}
    absent_below_end = 0
    log_end = evidence.log.end if evidence.log else evidence.top
    for span in absent(evidence.blocks, evidence.top, look_into):
        absent_below_end += max(0, min(span.end, log_end) - span.first)
        for verdict, part in _sorted_out(span, evidence, next_record):
            tallies[verdict].add(part)
    present = sum(block.present for block in evidence.blocks)
    spans = {verdict.value: tally.spans() for verdict, tally in tallies.items()}
    return PartitionReport(
        topic=evidence.topic,
        topic_id=evidence.topic_id,
        partition=evidence.partition,
        log=evidence.log,
        rows=sum(block.rows for block in evidence.blocks),
        dead_letters=sum(block.dead_letters for block in evidence.blocks),
        repaired=sum(block.repaired for block in evidence.blocks),
        copies=sum(block.copies for block in evidence.blocks),
        conflicts=sum(block.conflicts for block in evidence.blocks),
        beyond_end=present - (log_end - absent_below_end),
        tail_unknown=evidence.log is None and all(gap.end is not None for gap in evidence.gaps),
        oldest_pending_ms=_oldest(spans[Absence.PENDING], next_record),
        **spans,
    )


def absent(blocks: Iterable[Block], top: int, look_into: LookInto) -> Iterator[Span]:
    """What is in no block, below `top`."""
    return joined(_between(blocks, top, look_into))


def _between(blocks: Iterable[Block], top: int, look_into: LookInto) -> Iterator[Span]:
    end = 0
    for run in _runs(blocks):
        yield Span(end, run[0].first)
        if not run[0].dense:
            yield from look_into(run)
        end = run[-1].last + 1
    yield Span(end, top)


def _runs(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Dense blocks alone, others together with their neighbours."""
    run: list[Block] = []
    for block in blocks:
        if run and (block.dense or len(run) == BLOCKS_A_LOOK_MAX):
            yield run
            run = []
        if block.dense:
            yield [block]
        else:
            run.append(block)
    if run:
        yield run


def _sorted_out(span: Span, evidence: Evidence, next_record: NextRecord) -> Iterator[tuple[Absence, Span]]:
    for part, is_recorded in parted(span, evidence.recorded):
        if is_recorded:
            yield Absence.RECORDED, part
        elif evidence.log is None:
            yield from _unheld(part, evidence.first_known)
        else:
            yield from _held(part, evidence.log, evidence.first_known, next_record)


def _held(span: Span, log: Log, first_known: int, next_record: NextRecord) -> Iterator[tuple[Absence, Span]]:
    claimed_end = max(log.start, log.committed or 0)
    for part in cut([span], (log.start, claimed_end, log.end)):
        if part.first < log.start:
            yield from _unheld(part, first_known)
        elif part.first >= log.end:
            yield Absence.UNACCOUNTED, part
        elif part.first >= claimed_end:
            yield Absence.PENDING, part
        else:
            yield from _sifted(part, next_record)


def _unheld(span: Span, first_known: int) -> Iterator[tuple[Absence, Span]]:
    """Kafka cannot be asked any more."""
    for part in cut([span], (first_known,)):
        yield (Absence.UNCLAIMED if part.first < first_known else Absence.UNACCOUNTED), part


def _sifted(span: Span, next_record: NextRecord) -> Iterator[tuple[Absence, Span]]:
    """Kafka is asked for what it still shows."""
    at = span.first
    while at < span.end:
        found = next_record(at)
        shown = span.end if found is None else min(found.offset, span.end)
        if at < shown:
            yield Absence.HOLES, Span(at, shown)
        if shown < span.end:
            yield Absence.MISSING, Span(shown, shown + 1)
        at = shown + 1


def _oldest(pending: Spans, next_record: NextRecord) -> int | None:
    found = next_record(pending.shown[0].first) if pending.count else None
    return None if found is None else found.kafka_time_ms
