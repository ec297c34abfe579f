from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.errors import DatumError, WireError
from schemas.events import EventId, Interaction, ItemId, Micros, ProducerId, Stamp, Traffic, UnitId
from schemas.wire import HEADER_BYTES
from tests.schemas.record_strategies import EVENT_TYPES, records

CLICK = Interaction(
    occurred_at=Micros(1_700_000_000_000_000),
    unit_type="user",
    unit_id=UnitId("u1"),
    traffic=Traffic.LIVE,
    surface="home",
    item_id=ItemId("i1"),
    kind="click",
    event_id=EventId("018f0000-0000-7000-8000-000000000001"),
    producer_id=ProducerId("018f0000-0000-7000-8000-000000000002"),
    producer_seq=7,
)
PHYSICAL = parse_physical(contract("Interaction").newest.schema)


@given(st.data())
@pytest.mark.parametrize("record_type", EVENT_TYPES)
def test_a_record_random_in_every_field_comes_back_as_it_was(record_type: type[Any], data: st.DataObject) -> None:
    codec: Codec[Any] = Codec(record_type)
    record = data.draw(records(record_type))

    value = codec.encode(record, 3)

    assert codec.decode(value, parse_physical(contract(record_type.__name__).newest.schema)) == record


@given(records(Interaction))
def test_the_bytes_are_those_of_a_plain_avro_writer(record: Interaction) -> None:
    value = Codec(Interaction).encode(record, 3)

    fields = fastavro.schemaless_reader(BytesIO(value[HEADER_BYTES:]), PHYSICAL, None)
    assert isinstance(fields, dict)
    again = BytesIO()
    fastavro.schemaless_writer(again, PHYSICAL, fields)
    assert again.getvalue() == value[HEADER_BYTES:]


def test_the_stamp_takes_the_place_of_the_events_own() -> None:
    stamp = Stamp(EventId("018f0000-0000-7000-8000-00000000000a"), ProducerId("018f0000-0000-7000-8000-00000000000b"), 42)

    decoded = Codec(Interaction).decode(Codec(Interaction).encode(CLICK, 1, stamp), PHYSICAL)

    assert (decoded.event_id, decoded.producer_id, decoded.producer_seq) == (stamp.event_id, stamp.producer_id, 42)


def test_an_older_writers_record_reads_with_the_defaults_of_what_it_lacks() -> None:
    schema = contract("Interaction").newest.schema
    older = parse_physical({**schema, "fields": [field for field in schema["fields"] if field["name"] != "value"]})
    fields = {"session_id": None, "request_id": None, "position": None, "client_occurred_at": None, "client_sent_at": None}
    required = {name: getattr(CLICK, name) for name in ("occurred_at", "unit_type", "unit_id", "surface", "item_id", "kind")}
    stamped = {"event_id": CLICK.event_id, "producer_id": CLICK.producer_id, "producer_seq": 7, "traffic": "live"}
    buffer = BytesIO(b"\x00\x00\x00\x00\x01")
    buffer.seek(HEADER_BYTES)
    fastavro.schemaless_writer(buffer, older, {**fields, **required, **stamped})

    assert Codec(Interaction).decode(buffer.getvalue(), older) == CLICK


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_truncated_datum_is_an_error_and_never_another_record(cut: int) -> None:
    value = Codec(Interaction).encode(CLICK, 1)

    with pytest.raises((DatumError, WireError)):
        Codec(Interaction).decode(value[:-cut], PHYSICAL)


def test_a_byte_too_many_is_an_error() -> None:
    value = Codec(Interaction).encode(CLICK, 1)

    with pytest.raises(DatumError, match="1 bytes are left over"):
        Codec(Interaction).decode(value + b"\x00", PHYSICAL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"occurred_at": "yesterday"},
        {"value": "much"},
        {"position": 1.5},
        {"session_id": 7},
        {"traffic": "alien"},
        {"position": 2**31},
    ],
)
def test_a_value_of_the_wrong_type_is_refused_when_it_is_encoded(wrong: dict[str, Any]) -> None:
    fields = {name: getattr(CLICK, name) for name in Interaction.__slots__}

    with pytest.raises(DatumError, match="Interaction"):
        Codec(Interaction).encode(Interaction(**{**fields, **wrong}), 1)
