"""Where a stretch begins and ends, as a person says it."""

from datetime import UTC, datetime

import pytest

from stream_processors.replay.bounds import At, Edge, Offset, Offsets, bound_of, chosen, refuse_reversed
from stream_processors.replay.errors import WrongQuestion
from stream_processors.replay.manifest import Missing, PartitionRange, Piece, PieceSource
from stream_processors.replay.plan import PlanSource, Stretch, cover
from stream_processors.warehouse.records import OffsetRanges

NOW_MS = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("beginning", Edge(is_end=False)),
        ("end", Edge(is_end=True)),
        ("1500", Offset(1500)),
        ("0:15,2:9", Offsets({0: 15, 2: 9})),
        ("2h", At(NOW_MS - 2 * HOUR_MS)),
        ("2026-11-23T11:00", At(NOW_MS - HOUR_MS)),
        ("2026-11-23T11:00+02:00", At(NOW_MS - 3 * HOUR_MS)),
        ("2026-11-23", At(NOW_MS - 12 * HOUR_MS)),
    ],
)
def test_a_bound_is_a_time_an_age_offsets_or_an_edge(text: str, bound: object) -> None:
    assert bound_of(text, "--from", NOW_MS) == bound


@pytest.mark.parametrize(
    ("text", "why"),
    [("yesterday", "is no time"), ("2026-11-23T12:01", "in the future"), ("0:1,0:2", "named twice"), ("", "is no time")],
)
def test_what_is_no_bound_or_lies_in_the_future_is_refused(text: str, why: str) -> None:
    with pytest.raises(WrongQuestion, match=why):
        bound_of(text, "--to", NOW_MS)


@pytest.mark.parametrize(
    ("first", "end"),
    [("1h", "2h"), ("1h", "1h"), ("7", "7"), ("8", "7"), ("end", "end"), ("beginning", "beginning"), ("0:1", "1:2")],
)
def test_a_stretch_that_is_reversed_is_refused(first: str, end: str) -> None:
    with pytest.raises(WrongQuestion):
        refuse_reversed(bound_of(first, "--from", NOW_MS), bound_of(end, "--to", NOW_MS))


def test_partitions_are_chosen_by_naming_them() -> None:
    everything, some = Edge(is_end=True), Offsets({3: 1})

    assert (chosen(some, everything), chosen(everything, some), chosen(everything, everything)) == (
        frozenset({3}),
        frozenset({3}),
        None,
    )


@pytest.mark.parametrize(
    ("source", "pieces", "missing"),
    [
        (PlanSource.KAFKA, [("kafka", 50, 90)], [(10, 50, "expired: Kafka's log begins at 50")]),
        (PlanSource.ARCHIVE, [("archive", 20, 60)], [(10, 20, "not in the archive"), (60, 90, "not in the archive")]),
        (
            PlanSource.AUTO,
            [("archive", 20, 50), ("kafka", 50, 90)],
            [(10, 20, "expired: Kafka's log begins at 50; not in the archive")],
        ),
    ],
)
def test_what_kafka_has_let_go_of_is_taken_from_the_archive_or_missing(
    source: PlanSource, pieces: list[tuple[str, int, int]], missing: list[tuple[int, int, str]]
) -> None:
    archived = OffsetRanges([(20, 60)])

    covered = cover(Stretch(1, 10, 90, 50), archived, source)

    wanted = tuple(Piece(PieceSource(name), *span) for name, *span in pieces)
    assert covered == PartitionRange(1, 10, 90, wanted, tuple(Missing(*gap) for gap in missing))
