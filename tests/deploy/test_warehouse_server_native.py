"""Native in the dialect of Go clients: block info before each block, a serialization byte after each column's type."""

from functools import cache

import pytest
from chdb.state.sqlitelike import Connection
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.warehouse_server.errors import ServerError
from deploy.local.warehouse_server.native_revision import RevisedBlocks

BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
EVERY_LAYOUT = {
    "number": "UInt64",
    "toString(number)": "String",
    "toLowCardinality(toString(number % 5))": "LowCardinality(String)",
    "if(number % 2, number, NULL)": "Nullable(UInt64)",
    "[[number, 2], []]": "Array(Array(UInt64))",
    "map('k', [(number, 'x')])": "Map(String, Array(Tuple(UInt64, String)))",
    "(number, 'x')::Tuple(p UInt64, `q (,r` String)": "",
    "CAST(number % 2, 'Enum8(\\'a,(b\\'\\'\\' = 0, \\'c\\' = 1)')": "",
    "[toLowCardinality(toNullable('z')), NULL]": "Array(LowCardinality(Nullable(String)))",
    "toDateTime64(number, 3, 'UTC')": "DateTime64(3, 'UTC')",
    "toDecimal128(1.5, 2)": "Decimal(38, 2)",
    "generateUUIDv4()": "UUID",
    "toFixedString('abc', 3)": "FixedString(3)",
    "toIntervalDay(1)": "IntervalDay",
    "(1., 2.)::Point": "Point",
    "NULL": "Nullable(Nothing)",
    "[]::Array(String)": "Array(String)",
    "tuple()": "Tuple()",
}


@cache
def native(sql: str) -> bytes:
    with Connection(":memory:") as connection:
        return bytes(connection.query(sql, "Native").bytes())


def revised(data: bytes, piece: int) -> bytes:
    blocks = RevisedBlocks()
    return b"".join(blocks.feed(data[start : start + piece]) for start in range(0, len(data), piece)) + blocks.end()


@pytest.mark.parametrize("expression", EVERY_LAYOUT)
def test_a_column_of_any_layout_gains_its_byte_and_keeps_its_data(expression: str) -> None:
    data = native(f"SELECT {expression} AS x, 'end' AS y FROM numbers(7)")
    alone = native(f"SELECT {expression} AS x FROM numbers(7)")
    prefix = 2 + 2
    assert revised(data, len(data)).startswith(BLOCK_INFO + data[:prefix])
    assert len(revised(data, len(data))) == len(data) + len(BLOCK_INFO) + 2
    assert revised(data, len(data)).endswith(b"\x01y\x06String\x00" + b"\x03end" * 7)
    assert len(revised(alone, len(alone))) == len(alone) + len(BLOCK_INFO) + 1


@given(piece=st.integers(min_value=1, max_value=5000))
def test_pieces_make_no_difference(piece: int) -> None:
    blocks = native("SELECT number, toString(number) FROM numbers(100)") * 3
    assert revised(blocks, piece) == revised(blocks, len(blocks))


def test_what_has_no_known_layout_is_refused_by_name() -> None:
    with pytest.raises(ServerError, match="cast the column to String"):
        revised(native("""SELECT '{"a":1}'::JSON AS j"""), 1000)
