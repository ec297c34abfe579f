"""The check of a single datum says what the real engine says of it."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from uuid import UUID

import fastavro
import pytest
from fastavro.utils import generate_many
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import parse_physical
from schemas.columns import column_type
from schemas.contracts import contract
from schemas.envelope import FIELD, Source
from schemas.tables import TABLE_OF_RECORD
from schemas.wire import frame
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letters import fault
from stream_processors.warehouse.errors import Refused
from stream_processors.warehouse.splice import splice_data
from stream_processors.warehouse.writer_schemas import Writer, make_writer
from tests.stream_processors.warehouse_fixture import Bench

UUID_TEXT = "018f0000-0000-7000-8000-ffffffffffff"
UUID_TYPE = {"type": "string", "logicalType": "uuid"}
TIME_TYPE = {"type": "long", "logicalType": "timestamp-micros"}
ENUM_TYPE = {"type": "enum", "name": "Kind", "symbols": ["one", "two", "three"]}
ITEM_TYPE = {
    "type": "record",
    "name": "Item",
    "fields": [
        {"name": "score", "type": ["null", "double"]},
        {"name": "at", "type": "int"},
        {"name": "name", "type": "string"},
    ],
}
EVERY_TYPE = {
    "type": "record",
    "name": "Every",
    "fields": [
        {"name": "id", "type": UUID_TYPE},
        {"name": "maybe_id", "type": ["null", UUID_TYPE]},
        {"name": "at", "type": TIME_TYPE},
        {"name": "maybe_at", "type": ["null", TIME_TYPE]},
        {"name": "flag", "type": "boolean"},
        {"name": "maybe_flag", "type": ["null", "boolean"]},
        {"name": "small", "type": "int"},
        {"name": "large", "type": "long"},
        {"name": "single", "type": "float"},
        {"name": "maybe_double", "type": ["double", "null"]},
        {"name": "kind", "type": ENUM_TYPE},
        {"name": "raw", "type": "bytes"},
        {"name": "text", "type": "string"},
        {"name": "maybe_text", "type": ["null", "string"]},
        {"name": "text_maybe", "type": ["string", "null"]},
        {"name": "mark", "type": {"type": "fixed", "name": "Mark", "size": 3}},
        {"name": "labels", "type": {"type": "map", "values": "long"}},
        {"name": "words", "type": {"type": "array", "items": "string"}},
        {"name": "items", "type": {"type": "array", "items": ITEM_TYPE}},
    ],
}
EVERY_VALUE: dict[str, Any] = {
    "id": UUID_TEXT,
    "maybe_id": UUID_TEXT,
    "at": 1_795_424_805_000_000,
    "maybe_at": None,
    "flag": True,
    "maybe_flag": False,
    "small": -70_000,
    "large": 1 << 40,
    "single": 0.5,
    "maybe_double": 1.5,
    "kind": "three",
    "raw": b"\x00\xff",
    "text": "t" * 70,
    "maybe_text": "m",
    "text_maybe": None,
    "mark": b"abc",
    "labels": {"a": 1, "b": 300},
    "words": ["", "w"],
    "items": [{"score": None, "at": 1, "name": "n"}, {"score": 2.5, "at": 200, "name": ""}],
}
GUARD = "throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed')"


def datum(schema: dict[str, Any], value: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, parse_physical(schema), value)
    return buffer.getvalue()


def varint(number: int) -> bytes:
    """The shortest zigzag varint of a long, as Avro writes it."""
    return datum({"type": "record", "name": "L", "fields": [{"name": "n", "type": "long"}]}, {"n": number})


class Engine:
    """The engine's word on data of one schema: each goes in before a good one whose envelope must still be found."""

    def __init__(self, bench: Bench, schema: dict[str, Any], good: bytes) -> None:
        self.made, self.good = make_writer(1, schema), good
        self.writer = ClickHouseWriter(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1000)
        columns = ", ".join(f"{field['name']} {column_type(field['type'])}" for field in schema["fields"])
        bench.command_sql(
            f"CREATE TABLE probe ({FIELD} FixedString(80) EPHEMERAL, _framed UInt8 DEFAULT {GUARD}, {columns}) ENGINE = Memory"
        )

    def refusal(self, datum: bytes) -> str | None:
        source = Source(b"o" * 16, UUID(int=7), 0, 1, "live")
        container = splice_data(self.made.header, source, [(0, 0, datum), (1, 0, self.good)], b"s" * 16)
        try:
            self.writer.insert("probe", self.made.columns, container, "test")
        except Refused as refusal:
            if not refusal.blames_the_data:
                raise
            return refusal.text
        return None


def agree(engine: Engine, datum: bytes) -> None:
    told, refusal = fault(frame(1, datum), engine.made), engine.refusal(datum)
    assert (told is None) == (refusal is None), f"{datum!r}: we say {told}, the engine says {refusal}"


def one_field(avro: Any) -> Writer:
    return make_writer(1, {"type": "record", "name": "One", "fields": [{"name": "field", "type": avro}]})


@pytest.fixture
def engine(bench: Bench) -> Iterator[Engine]:
    made = Engine(bench, EVERY_TYPE, datum(EVERY_TYPE, EVERY_VALUE))
    yield made
    made.writer.close()


@st.composite
def mangled(draw: st.DrawFn, whole: bytes) -> bytes:
    """A datum with up to three small wrongs: cut, lengthened, bytes changed, numbers written in unusual ways."""
    value = whole
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        width = draw(st.integers(0, 4))
        patch = draw(st.one_of(st.binary(max_size=6), st.integers(-(1 << 63), (1 << 63) - 1).map(varint), st.sampled_from(ODD)))
        value = value[:at] + patch + value[at + width :]
    return draw(st.sampled_from((value, value[: draw(st.integers(0, len(value)))])))


ODD = [
    b"\x80\x00",
    b"\x82\x00",
    b"\xff" * 9 + b"\x7f",
    b"\x80" * 10 + b"\x00",
    b"\x01\x00",
    b"\x01\x03",
    b"\x04",
    b"\x01",
    b"\x48",
]


@pytest.mark.integration
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=mangled(datum(EVERY_TYPE, EVERY_VALUE)))
def test_of_mangled_data_it_takes_exactly_those_that_the_engine_takes(engine: Engine, value: bytes) -> None:
    agree(engine, value)


@pytest.mark.integration
def test_with_one_byte_changed_anywhere_it_agrees_with_the_engine(engine: Engine) -> None:
    """Every byte of a datum that has every type, replaced by what may matter there; of a long text's bytes, every eighth."""
    for at in [at for at, byte in enumerate(engine.good) if byte != ord("t") or at % 8 == 0]:
        for byte in (0x00, 0x01, 0x03, 0x06, 0xFF):
            agree(engine, engine.good[:at] + bytes([byte]) + engine.good[at + 1 :])


def unusual(number: int) -> list[bytes]:
    """A number written longer than it need be, up to past what the engine reads, and its neighbours modulo 2^32 and 2^64."""
    shortest = varint(number)
    padded = [shortest[:-1] + bytes([shortest[-1] | 0x80]) + b"\x80" * (length - 2) + b"\x00" for length in (2, 3, 5, 10, 11)]
    ten = padded[3]
    return [
        *padded,
        ten[:-1] + b"\x02",
        ten[:-1] + b"\x7e",
        varint(number + (1 << 32)),
        varint(number - (1 << 32)),
        varint(-number),
    ]


@pytest.mark.integration
def test_numbers_written_in_unusual_ways_are_read_as_the_engine_reads_them(bench: Bench) -> None:
    union, words = ["null", "string"], {"type": "array", "items": "string"}
    types = ["int", ENUM_TYPE, "string", union, union, ["null", "double"], words, words]
    schema = {"type": "record", "name": "Numbers", "fields": [{"name": f"f{at}", "type": avro} for at, avro in enumerate(types)]}
    fields = [(1, b""), (1, b""), (1, b"a"), (1, b"\x02m"), (0, b""), (1, b"8 bytes!"), (1, b"\x02w\x00"), (0, b"")]
    usual = [varint(number) + rest for number, rest in fields]
    engine = Engine(bench, schema, b"".join(usual))
    try:
        for at, (number, rest) in enumerate(fields):
            for written in unusual(number):
                agree(engine, b"".join([*usual[:at], written + rest, *usual[at + 1 :]]))
    finally:
        engine.writer.close()


@pytest.mark.integration
def test_a_datum_of_the_contracts_own_is_taken_by_both(bench: Bench) -> None:
    for record, table in TABLE_OF_RECORD.items():
        schema = contract(record).newest.schema
        good = datum(schema, next(iter(generate_many(parse_physical(schema), 1))) | uuids(schema))
        engine = Engine(bench, schema, good)
        try:
            assert fault(frame(1, good), engine.made) is None, table
            assert engine.refusal(good) is None, table
        finally:
            engine.writer.close()
            bench.command_sql("DROP TABLE probe")


def uuids(schema: dict[str, Any]) -> dict[str, str]:
    """The fields that must hold a uuid, with one."""
    return {field["name"]: UUID_TEXT for field in schema["fields"] if field["type"] == UUID_TYPE}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (UUID_TEXT, True),
        (UUID_TEXT.upper(), True),
        (UUID_TEXT.replace("-", ""), False),
        (UUID_TEXT.replace("-", "x"), False),
        (UUID_TEXT[:-1] + "g", False),
        (UUID_TEXT + " ", False),
        ("0" * 36, False),
        ("", False),
    ],
)
def test_a_uuid_is_what_the_engine_parses(text: str, *, taken: bool) -> None:
    told = fault(frame(1, varint(len(text)) + text.encode()), one_field(UUID_TYPE))

    assert told == (None if taken else ("engine", f"field: {text!r} is no uuid"))


@pytest.mark.parametrize(
    ("avro", "datum", "error"),
    [
        ("string", b"\x06ab", "the value ends 1 bytes before the datum does"),
        ("string", b"\x02ab", "1 bytes are left over after the datum"),
        ("string", b"", "the value ends in the middle of the datum"),
        ("string", b"\x01", "a text of -1 bytes at 5"),
        ("int", varint(1 << 31), "field: 2147483648 is no 32-bit number"),
        ("boolean", b"\x02", "field: the byte 2 is no boolean"),
        (ENUM_TYPE, b"\x06", "field: the enum has 3 symbols, and none at 3"),
        ("long", b"\x80" * 10 + b"\x00", "a number of more than ten bytes"),
        (UUID_TYPE, b"\x48abc", "the value ends in the middle of the datum"),
    ],
)
def test_what_is_wrong_is_said(avro: Any, datum: bytes, error: str) -> None:
    assert fault(frame(1, datum), one_field(avro)) == ("datum", error)


@pytest.mark.parametrize("branches", [["null", "string", "long"], ["string", "long"]])
def test_of_a_schema_without_columns_nothing_is_said(branches: list[str]) -> None:
    assert fault(frame(1, b"whatever"), one_field(branches)) is None


def test_the_schema_of_the_test_is_one_that_the_warehouse_takes() -> None:
    assert [column_type(field["type"]) for field in json.loads(json.dumps(EVERY_TYPE))["fields"]]
