from hypothesis import given
from hypothesis import strategies as st

from stream_processors.warehouse.batch import Batch, BatchLimits
from stream_processors.warehouse.records import OffsetRanges
from tests.stream_processors.messages import FakeMessage

LIMITS = BatchLimits(rows=3, bytes=100, age_s=1.0)


def filled(*values: bytes, at_s: float = 0.0) -> Batch:
    batch = Batch(0)
    for offset, value in enumerate(values):
        batch.add(FakeMessage(offset, value), at_s)
    return batch


def test_an_empty_batch_is_never_due() -> None:
    assert not Batch(5).due(LIMITS, 1e9)


def test_a_batch_is_due_at_its_rows_its_bytes_or_its_age() -> None:
    assert not filled(b"a", b"b").due(LIMITS, 0.9)
    assert filled(b"a", b"b", b"c").due(LIMITS, 0.0)
    assert filled(b"a" * 100).due(LIMITS, 0.0)
    assert filled(b"a").due(LIMITS, 1.0)


def test_the_age_counts_from_the_first_record() -> None:
    batch = filled(b"a", at_s=10.0)
    batch.add(FakeMessage(1, b"b"), 10.9)

    assert batch.due(LIMITS, 11.0)


def test_a_hole_at_the_end_is_committed_too() -> None:
    batch = filled(b"a")
    batch.reach(8, 0.0)

    assert batch.end == 8
    assert len(batch.messages) == 1


def test_an_end_that_is_known_already_opens_nothing() -> None:
    batch = Batch(5)
    batch.reach(5, 0.0)

    assert not batch.due(LIMITS, 1e9)


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_ranges_hold_exactly_their_offsets(offsets: set[int], probe: int) -> None:
    ranges = OffsetRanges((offset, offset + 1) for offset in offsets)

    assert (probe in ranges) == (probe in offsets)
    assert ranges.count() == len(offsets)
    assert bool(ranges) == bool(offsets)
