"""Whatever happens to a segment's bytes, the records that are whole are found, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.spool.frames import (
    MARKER,
    Run,
    Scan,
    SpoolRecord,
    acknowledged_of,
    cursor,
    frame,
    seed_of,
)

SEED = seed_of(b"a segment")
RECORDS = [
    SpoolRecord("recommendations", 1, b"unit-1", b"a datum"),
    SpoolRecord("interactions", 2, b"", MARKER + b"\x00\x00\x00\x01" + MARKER * 3),
    SpoolRecord("interactions", 1, b"unit-2", b""),
    SpoolRecord("recommendations", 1, b"unit-3", bytes(range(256))),
    SpoolRecord("producer-checkpoints", 300, b"p", b"\xff" * 40),
]


def segment(records: list[SpoolRecord], seed: int = SEED, start: int = 0) -> tuple[bytes, list[int]]:
    """Its bytes, and where each record ends."""
    data, ends = b"", []
    for record in records:
        data += frame(record, seed, start + len(data))
        ends.append(len(data))
    return data, ends


def found(data: bytes, seed: int = SEED, base: int = 0) -> list[SpoolRecord]:
    return [record for run in runs(data, seed, base) for record in run.records]


def runs(data: bytes, seed: int = SEED, base: int = 0, records_max: int = 2) -> list[Run]:
    scan, told = Scan(data, seed, base), []
    while not scan.done:
        told.append(scan.run(records_max))
        assert len(told[-1].records) <= records_max
    return told


def covers(told: list[Run], size: int) -> bool:
    """One after the other, from the first byte to the last, none of them empty."""
    ends = [0, *(run.end for run in told)]
    return [run.start for run in told] == ends[:-1] and ends[-1] == size and ends == sorted(set(ends))


@given(
    st.lists(
        st.builds(SpoolRecord, st.text(max_size=20), st.integers(1, 65_535), st.binary(max_size=50), st.binary(max_size=300))
    )
)
def test_what_was_written_is_read(records: list[SpoolRecord]) -> None:
    data, _ = segment(records)
    assert found(data) == records


def test_cut_anywhere_a_segment_gives_every_record_before_the_cut() -> None:
    data, ends = segment(RECORDS)
    for size in range(len(data)):
        assert found(data[:size]) == [record for record, end in zip(RECORDS, ends, strict=True) if end <= size], size


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_with_any_byte_changed_a_segment_gives_every_other_record_and_nothing_new(flip: int) -> None:
    data, ends = segment(RECORDS)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= flip
        hit = next(number for number, end in enumerate(ends) if at < end)
        assert found(bytes(damaged)) == RECORDS[:hit] + RECORDS[hit + 1 :], at
        assert covers(runs(bytes(damaged)), len(data))


def test_with_any_byte_gone_or_one_more_nothing_is_invented() -> None:
    data, ends = segment(RECORDS)
    for at in range(len(data)):
        hit = next(number for number, end in enumerate(ends) if at < end)
        assert found(data[:at] + data[at + 1 :]) == RECORDS[:hit], at
        assert found(data[:at] + b"!" + data[at:]) == RECORDS[:hit], at


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=20))
def test_any_damage_leaves_a_part_of_what_was_written(junk: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(segment(RECORDS)[0] + junk)
    for at, value in changes:
        data[at % len(data)] = value
    assert set(found(bytes(data))) <= set(RECORDS)
    assert covers(runs(bytes(data)), len(data))


def test_a_frame_inside_a_damaged_record_is_no_record() -> None:
    inner, _ = segment([RECORDS[0]])
    data, _ = segment([SpoolRecord("interactions", 1, b"", inner), RECORDS[1]])
    damaged = b"\x00" + data[1:]
    assert found(damaged) == [RECORDS[1]]


def test_a_frame_of_another_segment_or_another_place_is_no_record() -> None:
    data, ends = segment(RECORDS)
    assert found(data, seed_of(b"another segment")) == []
    assert found(data[ends[0] :]) == []
    assert found(data[ends[0] :], base=ends[0]) == RECORDS[1:]


@given(st.integers(0, 1 << 62), st.integers(0, 11), st.integers(1, 255))
def test_a_cursor_that_is_damaged_or_anothers_means_the_start(acknowledged: int, at: int, flip: int) -> None:
    data = cursor(SEED, acknowledged)
    damaged = bytes(byte ^ (flip if place == at else 0) for place, byte in enumerate(data))
    assert acknowledged_of(data, SEED) == acknowledged
    assert [acknowledged_of(broken, SEED) for broken in (damaged, data[:-1], data + b"!", b"")] == [0] * 4
    assert acknowledged_of(data, seed_of(b"another segment")) == 0
