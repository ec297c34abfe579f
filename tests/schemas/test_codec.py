from io import BytesIO
from types import SimpleNamespace
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.datum_writer import datum_writer
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


@given(st.data())
@pytest.mark.parametrize("record_type", EVENT_TYPES)
def test_the_bytes_are_those_of_a_general_avro_writer(record_type: type[Any], data: st.DataObject) -> None:
    value = Codec(record_type).encode_datum(data.draw(records(record_type)))

    schema = parse_physical(contract(record_type.__name__).newest.schema)
    fields = fastavro.schemaless_reader(BytesIO(value), schema, None)
    assert isinstance(fields, dict)
    again = BytesIO()
    fastavro.schemaless_writer(again, schema, fields)
    assert again.getvalue() == value


@pytest.mark.parametrize("number", [0, -1, 63, 64, -64, -65, 8191, 8192, 2**31, -(2**63), 2**63 - 1])
def test_whole_numbers_of_every_length_are_a_general_writers(number: int) -> None:
    schema = {"type": "record", "name": "One", "fields": [{"name": "number", "type": "long"}]}
    written = BytesIO()
    fastavro.schemaless_writer(written, schema, {"number": number})

    one = SimpleNamespace(number=number)
    assert datum_writer(schema)(one, one) == written.getvalue()


@pytest.mark.parametrize("union", [["null", "string"], ["string", "null"]])
@pytest.mark.parametrize("text", [None, "words"])
def test_null_may_be_either_branch_of_a_union(union: list[str], text: str | None) -> None:
    schema = {"type": "record", "name": "One", "fields": [{"name": "text", "type": union}]}
    written = BytesIO()
    fastavro.schemaless_writer(written, schema, {"text": text})

    one = SimpleNamespace(text=text)
    assert datum_writer(schema)(one, one) == written.getvalue()


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
        {"occurred_at": 2**63},
        {"surface": None},
        {"surface": "half of a pair \ud800"},
    ],
)
def test_a_value_of_the_wrong_type_is_refused_when_it_is_encoded(wrong: dict[str, Any]) -> None:
    fields = {name: getattr(CLICK, name) for name in Interaction.__slots__}

    with pytest.raises(DatumError, match="Interaction"):
        Codec(Interaction).encode(Interaction(**{**fields, **wrong}), 1)
