from base64 import b64encode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.errors import DatumError
from schemas.events import DeadLetter, Header, Interaction
from schemas.wire import HEADER_BYTES, frame
from stream_processors.dead_letters.store import Coordinates, LetterSummary, StoredLetter
from stream_processors.dead_letters.view import (
    Fields,
    as_json,
    as_text,
    coordinates_of,
    encode_fields,
    read_fields,
    repaired_value,
    time_text,
)
from stream_processors.warehouse.records import Place
from stream_processors.warehouse.writer_schemas import Writer, make_writer
from tests.stream_processors.warehouse_fixture import interaction

NEWEST = make_writer(7, contract("Interaction").newest.schema)
GOOD = Codec(Interaction).encode(interaction(0), 7)


def writer_of(schema_id: int) -> Writer | None:
    return NEWEST if schema_id == 7 else None


def stored(value: bytes | None) -> StoredLetter:
    summary = LetterSummary(UUID(int=5), Place("t.interactions", 3), 8, 1_795_424_805_626, 7, "datum", "cut", 0, repaired=False)
    letter = DeadLetter(
        topic="t.interactions", key=b"k", value=value, headers=(Header("h", b"\xff"),), reason="datum", error="cut"
    )
    return StoredLetter(summary, letter)


def mended(value: bytes | None, **changes: object) -> bytes | None:
    letter = stored(value)
    line = {**as_json(letter, writer_of), **changes}
    return repaired_value(letter, line, writer_of, "Interaction", lambda: 9)


@given(st.integers(0, len(GOOD)))
def test_a_cut_value_shows_the_fields_that_read_and_names_the_others(length: int) -> None:
    record, fields, unread = read_fields(GOOD[:length], writer_of)

    if length < HEADER_BYTES:
        assert (record, fields, unread) == (None, None, [])
    else:
        names = [field["name"] for field in NEWEST.fields]
        assert fields is not None
        assert [*fields, *unread] == names
        whole = read_fields(GOOD, writer_of)[1]
        assert whole is not None
        assert fields == {name: whole[name] for name in fields}


@pytest.mark.parametrize("value", [None, b"", b"\x01x", frame(8, b"x")])
def test_of_a_value_without_a_known_frame_no_fields_are_shown(value: bytes | None) -> None:
    assert read_fields(value, writer_of) == (None, None, [])
    assert mended(value) == value


def test_what_was_not_changed_is_tried_as_it_is() -> None:
    for value in (GOOD, GOOD[:-3], None):
        assert mended(value) == value


def test_changed_bytes_are_taken_as_they_are_and_changed_fields_are_written_under_the_newest_id() -> None:
    fields = as_json(stored(GOOD), writer_of)["event"]

    assert mended(GOOD + b"!", value_base64=b64encode(GOOD).decode()) == GOOD
    assert mended(GOOD, value_base64=None) is None
    assert mended(GOOD, event={**fields, "item_id": "other"}) == GOOD.replace(b"\x04i0", b"\x0aother").replace(
        b"\x00\x00\x00\x00\x07", b"\x00\x00\x00\x00\x09"
    )


def test_a_line_with_both_changed_is_refused() -> None:
    fields = as_json(stored(GOOD), writer_of)["event"]

    with pytest.raises(DatumError, match="both value_base64 and event"):
        mended(GOOD, event={**fields, "item_id": "other"}, value_base64="AA==")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"position": 1.5}, "Interaction"),
        ({"producer_seq": 1.5}, "would be changed"),
        ({"unknown": 1}, "unknown is too many"),
        ({"traffic": "nobody"}, "Interaction"),
        ({"unit_id": None}, "Interaction"),
        ({"position": 1 << 40}, "Interaction"),
    ],
)
def test_fields_that_make_no_record_are_refused(change: Fields, error: str) -> None:
    fields = as_json(stored(GOOD), writer_of)["event"]

    with pytest.raises(DatumError, match=error):
        encode_fields({**fields, **change}, "Interaction")


def test_fields_with_defaults_may_be_left_out_and_a_whole_number_is_a_double() -> None:
    fields = as_json(stored(GOOD), writer_of)["event"]
    needed = {name: value for name, value in fields.items() if value is not None} | {"value": 2}

    datum = encode_fields(needed, "Interaction")

    assert read_fields(frame(7, datum), writer_of)[1] == {**fields, "value": 2.0}


def test_a_repaired_letter_names_its_coordinates() -> None:
    assert coordinates_of({"topic": "t", "partition": 1, "offset": 2}) == Coordinates("t", 1, 2)
    assert coordinates_of({"topic": "t", "topic_id": "id", "partition": "1", "offset": 2}) == Coordinates("id", 1, 2)
    for line in ({}, {"topic": "t"}, {"topic": "t", "partition": 0, "offset": "x"}):
        with pytest.raises(DatumError, match="topic"):
            coordinates_of(line)


def test_coordinates_are_read_as_they_are_printed() -> None:
    at = Coordinates("a:b.c", 1, 22)

    assert Coordinates.from_text(str(at)) == at
    for text in ("a", "a:b", "a:b:c", "a:1:"):
        with pytest.raises(ValueError, match=r"invalid literal|unpack"):
            Coordinates.from_text(text)


def test_a_letter_for_a_person_has_its_bytes_and_a_limit_on_them() -> None:
    text = as_text(stored(GOOD + bytes(5000)), writer_of)

    assert "00000000  00 00 00 00 07 48" in text
    assert "header      h: b'\\xff'" in text
    assert f"… {len(GOOD) + 5000 - 4096} bytes more" in text


def test_times_are_said_in_utc_and_those_of_no_calendar_as_numbers() -> None:
    assert time_text(1_795_424_805_626) == "2026-11-23T09:06:45.626Z"
    assert time_text(1 << 62) == f"{1 << 62} ms"
