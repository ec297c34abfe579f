"""What producers say they have emitted against what has arrived, number by number, without looking at each. Pure.

A producer (one incarnation of one emitter) numbers what it accepts for a topic 0, 1, 2 …, and its checkpoints say how far it has
come (`next_seq`) and how many it has lost, by reason. They say how many are lost, not which; so judgement is by counts:

- below a checkpoint's `next_seq`, `absent` numbers are in no row; of these `dropped` were lost and told;
- a checkpoint is complete if no more are absent than it says were dropped. "Complete up to T" is the time (the producer's clock)
  of the last checkpoint that is complete: every event accepted before T is in, or its loss was told;
- numbers are *due* if nothing can still be on its way with them: the producer has closed, or is silent, or had used them a
  patience ago. Due, absent, neither dropped nor waiting with the producer: `missing`. Not due yet: `awaited`;
- `waiting` are absent numbers that the producer has said are in its memory or on its disk. What is on disk outlives it: the next
  emitter on its host sends it. What that one loses, of what it has found, only its metrics tell.

A stream is read only as far as its topic is settled: of what was in Kafka then everything is in the warehouse. Not proven: a
delivery that failed for its producer and succeeded in Kafka is counted as dropped and is in, and can hide one other loss; the
tail of a producer that fell silent without closing is `unknown`, and nobody can say how long it was (what it lacks before its
end is counted, and is no verdict: it was on its way when the process died); a number in a dead letter cannot be read, so of a
topic only as many missing numbers are `unexplained` as exceed its dead letters and recorded gaps. A number that arrives after the
patience heals the verdict with the next audit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from stream_processors.audit.spans import Span

UNNUMBERED_LOSSES = ("queue_full", "closed", "wrong_event")
"""Reasons of losses before a number was given: no number is absent for them. Every other loss leaves one absent."""


class State(StrEnum):
    COMPLETE = "complete"
    """Closed, and nothing is missing."""
    SPOOLED = "spooled"
    """Closed, and what is not in waits on its host's disk."""
    LIVE = "live"
    """Not closed, heard of lately, nothing missing."""
    UNKNOWN = "unknown"
    """Never closed and silent: what it had queued or on its way died with it, and only it knew how much that was."""
    MISSING = "missing"
    """Closed or live, and numbers are missing: it went on, and they did not come."""


@dataclass(frozen=True, slots=True)
class Told:
    """A producer's last checkpoint for a topic. `at_us` is the producer's clock, `heard_ms` Kafka's."""

    next_seq: int
    dropped: Mapping[str, int]
    queued: int
    spooled: int
    closed: bool
    at_us: int
    heard_ms: int

    @property
    def numbered_drops(self) -> int:
        return sum(lost for reason, lost in self.dropped.items() if reason not in UNNUMBERED_LOSSES)


@dataclass(frozen=True, slots=True)
class Steps:
    """How a stream came along with its checkpoints: numbers seen below the last; the last complete one; the last that is due."""

    seen_below_next: int
    complete_us: int | None
    due_seq: int
    seen_below_due: int


@dataclass(frozen=True, slots=True)
class Stream:
    """One producer's events of one topic. `seen` are different numbers in rows, `seen_end` follows the highest."""

    topic: str
    producer_id: UUID
    rows: int
    seen: int
    seen_end: int
    first_event_ms: int
    last_event_ms: int
    told: Told | None
    steps: Steps | None
    """None where nobody has to ask: no checkpoint, or closed with every number in."""

    @property
    def whole(self) -> bool:
        """Closed, and every number is in."""
        return self.told is not None and self.told.closed and self.seen == self.seen_end == self.told.next_seq


@dataclass(frozen=True, slots=True)
class StreamReport:
    """`absent` are spans of numbers in no row, the first of them, told drops among them; empty where nothing is missing."""

    topic: str
    producer_id: UUID
    state: State
    closed: bool
    silent: bool
    rows: int
    repeated: int
    """Rows beyond the first of their number: the producer's transport sent twice."""
    next_seq: int
    missing: int
    awaited: int
    dropped: Mapping[str, int]
    waiting: int
    complete_up_to_us: int | None
    """None where it is complete for good (state `complete`), or no checkpoint is complete so far."""
    began_ms: int
    """Kafka's time of its first event."""
    heard_ms: int
    absent: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Excuses:
    """What numbers of a topic may be that are in no row. Records of which nobody can read the number: dead letters that were not
    repaired, recorded gaps. And when the last gap was recorded of which nobody knows the end: whatever began before may be in it.
    """

    unreadable: int
    endless_ms: int


@dataclass(frozen=True, slots=True)
class TopicReport:
    """All producers of one topic. Live ones bound `complete_up_to_us`; unknown ones stand beside it: nobody can bound them."""

    topic: str
    streams: Mapping[State, int]
    missing: int
    unknown: int
    """Numbers that producers lack which fell silent without closing."""
    unexplained: int
    """Of the missing, so many at least have no excuse."""
    awaited: int
    dropped: Mapping[str, int]
    repeated: int
    complete_up_to_us: int | None
    """The least of the live producers; None where none is live, or one of them has no complete checkpoint."""
    settled_ms: int
    """Of what was in the topic at this time of Kafka everything is in the warehouse."""

    @property
    def sound(self) -> bool:
        return not self.unexplained


def judge(stream: Stream, settled_ms: int, patience_ms: int) -> StreamReport:
    told, steps = stream.told, stream.steps
    closed = told is not None and told.closed
    heard_ms = max(stream.last_event_ms, told.heard_ms if told else 0)
    silent = not closed and settled_ms - heard_ms > patience_ms
    dropped, kept = (told.numbered_drops, told.queued + told.spooled) if told else (0, 0)
    next_seq = max(told.next_seq if told else 0, stream.seen_end)
    excused, waiting = dropped + kept, max(0, min(kept, next_seq - stream.seen - dropped))
    lacking = max(0, next_seq - stream.seen - excused)
    missing = max(0, _due_absent(stream, next_seq, all_due=closed or silent) - excused)
    return StreamReport(
        topic=stream.topic,
        producer_id=stream.producer_id,
        state=_state(missing, waiting, closed=closed, silent=silent),
        closed=closed,
        silent=silent,
        rows=stream.rows,
        repeated=stream.rows - stream.seen,
        next_seq=next_seq,
        missing=missing,
        awaited=max(0, lacking - missing),
        dropped=told.dropped if told else {},
        waiting=waiting,
        complete_up_to_us=steps.complete_us if steps else None,
        began_ms=stream.first_event_ms or heard_ms,
        heard_ms=heard_ms,
    )


def judge_topic(topic: str, reports: Sequence[StreamReport], excuses: Excuses, settled_ms: int) -> TopicReport:
    dropped: Counter[str] = Counter()
    for report in reports:
        dropped.update(report.dropped)
    states = Counter(report.state for report in reports)
    lacking = [report for report in reports if report.state is State.MISSING]
    unshadowed = sum(report.missing for report in lacking if report.began_ms > excuses.endless_ms)
    return TopicReport(
        topic=topic,
        streams={state: states[state] for state in State},
        missing=sum(report.missing for report in lacking),
        unknown=sum(report.missing for report in reports if report.state is State.UNKNOWN),
        unexplained=max(0, unshadowed - excuses.unreadable),
        awaited=sum(report.awaited for report in reports),
        dropped=dict(dropped),
        repeated=sum(report.repeated for report in reports),
        complete_up_to_us=_least([report.complete_up_to_us for report in reports if not (report.closed or report.silent)]),
        settled_ms=settled_ms,
    )


def _least(times: Sequence[int | None]) -> int | None:
    """None where there is none, or one of them is unknown."""
    known = [time for time in times if time is not None]
    return min(known, default=None) if len(known) == len(times) else None


def _due_absent(stream: Stream, next_seq: int, *, all_due: bool) -> int:
    if all_due:
        return next_seq - stream.seen
    return stream.steps.due_seq - stream.steps.seen_below_due if stream.steps else 0


def _state(missing: int, waiting: int, *, closed: bool, silent: bool) -> State:
    if silent:
        return State.UNKNOWN
    if missing:
        return State.MISSING
    if closed:
        return State.SPOOLED if waiting else State.COMPLETE
    return State.LIVE
