"""Offsets judged as spans, against a model that looks at each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from stream_processors.audit.partitions import Absence, Block, Evidence, Found, Gap, Log, PartitionReport, judge
from stream_processors.audit.spans import SPANS_SHOWN_MAX, Span, Spans, Tally, cut, joined, parted

OFFSETS_MAX = 40
BLOCK = 8
TOPIC_ID = UUID(int=1)
OFFSETS = st.sets(st.integers(0, OFFSETS_MAX - 1))


@dataclass(frozen=True)
class World:
    """Every offset by itself."""

    rows: list[int]
    letters: list[int]
    repaired: frozenset[int]
    """Of `rows`, those that a replay has brought in."""
    shown: frozenset[int]
    gaps: list[tuple[int, int | None]]
    log: Log | None

    @property
    def present(self) -> set[int]:
        return {*self.rows, *self.letters}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    rows = draw(st.lists(st.integers(0, OFFSETS_MAX - 1), max_size=60))
    ends = st.one_of(st.none(), st.integers(0, OFFSETS_MAX))
    gaps = [(first, end) for first, end in draw(st.lists(st.tuples(st.integers(0, OFFSETS_MAX), ends), max_size=4))]
    start, end = sorted(draw(st.tuples(st.integers(0, OFFSETS_MAX), st.integers(0, OFFSETS_MAX))))
    log = Log(start, end, draw(st.one_of(st.none(), st.integers(0, OFFSETS_MAX + 5))))
    return World(
        rows=rows,
        letters=draw(st.lists(st.integers(0, OFFSETS_MAX - 1), max_size=8)),
        repaired=frozenset(draw(OFFSETS) & set(rows)),
        shown=frozenset(offset for offset in draw(OFFSETS) if start <= offset < end),
        gaps=[(first, gap_end) for first, gap_end in gaps if gap_end is None or gap_end > first],
        log=draw(st.sampled_from([log, log, log, None])),
    )


def blocks(world: World) -> list[Block]:
    found = []
    for number, group in groupby(sorted(world.present), key=lambda offset: offset // BLOCK):
        here = list(group)
        rows = [offset for offset in world.rows if offset in here]
        letters = [offset for offset in world.letters if offset in here]
        found.append(
            Block(
                number=number,
                first=here[0],
                last=here[-1],
                present=len(here),
                rows=len(rows),
                copies=len(rows) - len(set(rows)) + len(letters) - len(set(letters)),
                dead_letters=len(set(letters)),
                repaired=len(set(letters) & world.repaired),
                conflicts=len(set(letters) & set(rows) - world.repaired),
                first_ms=0,
                last_ms=0,
            )
        )
    return found


def evidence(world: World) -> Evidence:
    ordered = sorted(world.gaps, key=lambda gap: gap[0])
    gaps = [Gap("t", TOPIC_ID, 0, "expired", first, end, "", 0) for first, end in ordered]
    return Evidence("t", TOPIC_ID, 0, world.log, blocks(world), gaps)


def judged(world: World) -> PartitionReport:
    asked: list[int] = []

    def next_record(offset: int) -> Found | None:
        assert world.log is not None, "Kafka is not asked about a topic that is gone"
        assert world.log.start <= offset, "nor about what it no longer has"
        assert asked[-1:] <= [offset], "offsets rise"
        asked.append(offset)
        return min((Found(shown, shown * 10) for shown in world.shown if shown >= offset), default=None)

    def look_into(run: Sequence[Block]) -> Iterable[Span]:
        return joined(Span(at, at + 1) for at in range(run[0].first, run[-1].last + 1) if at not in world.present)

    return judge(evidence(world), look_into, next_record)


def verdict_on(offset: int, world: World, first_known: int) -> Absence | None:
    """The same, naively, for one offset."""
    if offset in world.present:
        return None
    log = world.log
    unknown_end = OFFSETS_MAX + 5 if log is None else log.start
    if any(first <= offset < (unknown_end if end is None else end) for first, end in world.gaps):
        return Absence.RECORDED
    if log is not None and log.start <= offset < log.end:
        if offset >= (log.committed or 0):
            return Absence.PENDING
        return Absence.MISSING if offset in world.shown else Absence.HOLES
    below = log is None or offset < log.start
    return Absence.UNCLAIMED if below and offset < first_known else Absence.UNACCOUNTED


@given(worlds())
@example(World([0, 1, 2], [], frozenset(), frozenset({3}), [], Log(0, 4, 4)))
def test_every_offset_is_judged_as_by_itself(world: World) -> None:
    report = judged(world)

    known = evidence(world)
    expected: dict[Absence, list[int]] = {verdict: [] for verdict in Absence}
    for offset in range(known.top):
        verdict = verdict_on(offset, world, known.first_known)
        if verdict is not None:
            expected[verdict].append(offset)
    for verdict, offsets in expected.items():
        spans: Spans = getattr(report, verdict.value)
        assert spans.count == len(offsets), verdict
        assert [at for span in spans.shown for at in range(*span)] == offsets[: sum(span.size for span in spans.shown)], verdict
    log_end = world.log.end if world.log else known.top
    assert report.beyond_end == sum(offset >= log_end for offset in world.present)


@given(worlds())
def test_copies_and_conflicts_are_counted_by_coordinates(world: World) -> None:
    report = judged(world)

    assert report.copies == len(world.rows) + len(world.letters) - len(set(world.rows)) - len(set(world.letters))
    assert report.conflicts == len(set(world.rows) & set(world.letters) - world.repaired)
    assert report.rows == len(world.rows)


@given(worlds())
def test_the_first_record_that_may_not_be_in_tells_how_far_the_topic_is_settled(world: World) -> None:
    report = judged(world)

    if world.log is not None and world.log.end == OFFSETS_MAX:
        outside = [at for at in world.shown if at not in world.present and at >= max(world.log.committed or 0, world.log.start)]
        if outside:
            assert report.oldest_pending_ms is not None
            assert report.oldest_pending_ms <= min(outside) * 10


def test_a_topic_that_is_gone_without_a_word_is_not_sound_and_one_that_is_recorded_is() -> None:
    rows = list(range(5))
    assert not judged(World(rows, [], frozenset(), frozenset(), [], None)).sound
    assert judged(World(rows, [], frozenset(), frozenset(), [(5, None)], None)).sound


def test_what_is_only_waiting_a_hole_or_recorded_is_sound() -> None:
    log = Log(start=4, end=12, committed=10)
    report = judged(World([4, 5, 7, 8, 9], [], frozenset(), frozenset({4, 5, 7, 8, 9, 10}), [(0, 4)], log))

    assert (report.recorded.count, report.holes.count, report.pending.count) == (4, 1, 2)
    assert report.sound


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))))
def test_joined_spans_are_apart_and_hold_the_same_numbers(spans: list[Span]) -> None:
    made = list(joined(sorted(spans)))

    assert numbers(made) == sorted(set(numbers(spans)))
    assert all(left.end < right.first for left, right in pairwise(made))


@given(st.lists(st.integers(0, 30)), st.sets(st.integers(0, 29)))
def test_cutting_and_parting_keep_every_number_once(borders: list[int], known: set[int]) -> None:
    whole, inside = Span(3, 25), list(joined(Span(at, at + 1) for at in sorted(known)))

    pieces = list(cut([whole], borders))
    assert numbers(pieces) == numbers([whole])
    assert not any(piece.first < border < piece.end for piece in pieces for border in borders)
    halves = list(parted(whole, inside))
    assert numbers(span for span, _ in halves) == numbers([whole])
    assert set(numbers(span for span, is_known in halves if is_known)) == known & set(range(*whole))


def test_a_tally_counts_all_and_keeps_few() -> None:
    tally = Tally()
    for first in range(0, 4 * SPANS_SHOWN_MAX, 2):
        tally.add(Span(first, first + 1))

    spans = tally.spans()

    assert spans.count == 2 * SPANS_SHOWN_MAX
    assert len(spans.shown) == SPANS_SHOWN_MAX
    assert str(spans).endswith(", …")


def numbers(spans: Iterable[Span]) -> list[int]:
    return [number for span in spans for number in range(*span)]
