from hypothesis import given
from hypothesis import strategies as st

from stream_processors.warehouse.batch import MESSAGE_BYTES, Batch, BatchLimits
from stream_processors.warehouse.records import OffsetRanges
from tests.stream_processors.messages import FakeMessage

LIMITS = BatchLimits(rows=3, bytes=3 * MESSAGE_BYTES + 100, age_s_min=0.1, age_s_max=1.0, bytes_in_hand=1 << 20)


def filled(*values: bytes, at_s: float = 0.0) -> Batch:
    batch = Batch(0)
    for offset, value in enumerate(values):
        batch.extend([FakeMessage(offset, value)], at_s)
    return batch


def test_an_empty_batch_never_ages() -> None:
    assert not Batch(5).aged(0.0, 1e9)


def test_a_batch_is_full_at_its_rows_or_its_bytes() -> None:
    assert not filled(b"a", b"b").full(LIMITS)
    assert filled(b"a", b"b", b"c").full(LIMITS)
    assert filled(b"a" * (2 * MESSAGE_BYTES + 100)).full(LIMITS)


def test_the_age_counts_from_the_first_record() -> None:
    batch = filled(b"a", at_s=10.0)
    batch.extend([FakeMessage(1, b"b")], 10.9)

    assert batch.aged(1.0, 11.0)
    assert not batch.aged(1.0, 10.95)


def test_a_hole_at_the_end_is_committed_too() -> None:
    batch = filled(b"a")
    batch.reach(8, 0.0)

    assert batch.end == 8
    assert len(batch.messages) == 1


def test_an_end_that_is_known_already_opens_nothing() -> None:
    batch = Batch(5)
    batch.reach(5, 0.0)

    assert not batch.aged(0.0, 1e9)


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_ranges_hold_exactly_their_offsets(offsets: set[int], probe: int) -> None:
    ranges = OffsetRanges((offset, offset + 1) for offset in offsets)

    assert (probe in ranges) == (probe in offsets)
    assert ranges.count() == len(offsets)
    assert bool(ranges) == bool(offsets)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10))), st.integers(0, 40), st.integers(0, 40))
def test_ranges_may_overlap_and_say_what_is_missing(pieces: list[tuple[int, int]], first: int, end: int) -> None:
    offsets = {offset for start, length in pieces for offset in range(start, start + length)}
    ranges = OffsetRanges((start, start + length) for start, length in pieces)

    assert {offset for start, stop in ranges for offset in range(start, stop)} == offsets
    assert ranges.count() == len(offsets)
    missing = {offset for start, stop in ranges.missing(first, end) for offset in range(start, stop)}
    assert missing == set(range(first, end)) - offsets
