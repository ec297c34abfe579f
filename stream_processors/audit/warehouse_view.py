"""What the warehouse has, as values: asks `questions`, reads the answers."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from stream_processors.audit import questions
from stream_processors.audit.clickhouse_reader import ClickHouseReader, Parameters, Row
from stream_processors.audit.emitters import UNNUMBERED_LOSSES, Steps, Stream, Told
from stream_processors.audit.partitions import BLOCK_OFFSETS, Block, Gap
from stream_processors.audit.spans import SPANS_SHOWN_MAX, Span, joined

CHECKPOINTS_MAX = 1_000
"""Of each producer so many of the last different checkpoints are looked at: more than an hour at one in five seconds."""
PRODUCERS_A_QUESTION_MAX = 200


@dataclass(frozen=True, slots=True)
class Times:
    """All in Kafka's or the warehouse's milliseconds."""

    asked_ms: int
    """When the audit began, by the warehouse's clock."""
    settled_ms: int
    """Of what was in the topic then everything is in the warehouse."""
    due_ms: int
    """Numbers that were in use then can no longer be on their way."""


@dataclass(frozen=True, slots=True)
class WarehouseView:
    """Everything here raises PartUnreachable where the warehouse does not answer, or lacks our tables."""

    reader: ClickHouseReader

    def now_ms(self) -> int:
        """The warehouse's clock, under which it stamps `_ingested_at`."""
        [[now]] = self.reader.rows(questions.NOW, {})
        return int(now)

    def gaps(self, topic: str) -> list[Gap]:
        """Every recorded gap of a topic and of those that had its name before, by id, partition and offset."""
        return [_gap(topic, row) for row in self.reader.rows(questions.GAPS, {"topic": topic})]

    def blocks(self, table: str, topic: str) -> dict[tuple[UUID, int], list[Block]]:
        """By topic id and partition, in order."""
        found: dict[tuple[UUID, int], list[Block]] = {}
        asked: Parameters = {"table": table, "topic": topic, "block_offsets": BLOCK_OFFSETS}
        for topic_id, partition, *figures in self.reader.rows(questions.BLOCKS, asked):
            found.setdefault((UUID(topic_id), int(partition)), []).append(Block(*map(int, figures)))
        return found

    def absent_offsets(self, table: str, topic_id: UUID, partition: int, blocks: Sequence[Block]) -> Iterator[Span]:
        """Between the first and the last coordinate of `blocks`."""
        asked: Parameters = {
            "table": table,
            "topic_id": str(topic_id),
            "partition": partition,
            "first": blocks[0].first,
            "last": blocks[-1].last,
            "first_ms": min(block.first_ms for block in blocks),
            "last_ms": max(block.last_ms for block in blocks),
        }
        return (Span(int(first), int(end)) for first, end in self.reader.rows(questions.ABSENT_OFFSETS, asked))

    def streams(self, table: str, topic: str, times: Times) -> list[Stream]:
        """Every producer of a topic (its name without prefix), by its rows and checkpoints; their steps are not asked for."""
        asked: Parameters = {"table": table, "topic": topic, "asked_ms": times.asked_ms, "settled_ms": times.settled_ms}
        return [_stream(topic, row) for row in self.reader.rows(questions.STREAMS, asked)]

    def steps(self, table: str, topic: str, producers: Sequence[UUID], times: Times) -> dict[UUID, Steps]:
        """Of those of `producers` that have checkpoints."""
        found = {}
        for first in range(0, len(producers), PRODUCERS_A_QUESTION_MAX):
            asked: Parameters = {
                "table": table,
                "topic": topic,
                "asked_ms": times.asked_ms,
                "settled_ms": times.settled_ms,
                "due_ms": times.due_ms,
                "producers": _array(map(str, producers[first : first + PRODUCERS_A_QUESTION_MAX])),
                "unnumbered": _array(UNNUMBERED_LOSSES),
                "checkpoints": CHECKPOINTS_MAX,
            }
            for producer, seen, complete_us, due_seq, due_seen in self.reader.rows(questions.STEPS, asked):
                found[UUID(producer)] = Steps(int(seen), int(complete_us) or None, int(due_seq), int(due_seen))
        return found

    def absent_numbers(self, table: str, stream: Stream, end: int) -> tuple[Span, ...]:
        """The first spans of a producer's numbers, below `end`, that are in no row."""
        asked: Parameters = {"table": table, "producer_id": str(stream.producer_id), "limit": SPANS_SHOWN_MAX}
        inner = [Span(int(first), int(last)) for first, last in self.reader.rows(questions.ABSENT_NUMBERS, asked)]
        return tuple(joined([*inner, Span(stream.seen_end, end)]))[:SPANS_SHOWN_MAX]


def _array(words: Iterable[str]) -> str:
    return "[" + ",".join(f"'{word}'" for word in words) + "]"


def _gap(topic: str, row: Row) -> Gap:
    topic_id, partition, reason, first, end, detail, recorded_ms = row
    end_known = None if end is None else int(end)
    return Gap(topic, UUID(topic_id), int(partition), reason, int(first), end_known, detail, int(recorded_ms))


def _stream(topic: str, row: Row) -> Stream:
    producer_id, rows, seen, seen_end, first_event_ms, last_event_ms, checkpoints, *said = row
    return Stream(
        topic=topic,
        producer_id=UUID(producer_id),
        rows=int(rows),
        seen=int(seen),
        seen_end=int(seen_end),
        first_event_ms=int(first_event_ms),
        last_event_ms=int(last_event_ms),
        told=_told(said) if int(checkpoints) else None,
        steps=None,
    )


def _told(said: Row) -> Told:
    next_seq, dropped, queued, spooled, closed, at_us, heard_ms = said
    losses = {reason: int(lost) for reason, lost in json.loads(dropped).items()}
    return Told(int(next_seq), losses, int(queued), int(spooled), bool(closed), int(at_us), int(heard_ms))
