"""The embedded warehouse as clickhouse-connect sees it, sync and async: the client that the sink and analysis use."""

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from deploy.local.warehouse_server.refusals import ALLOWED_ENGINES, REFUSED_ENGINES, REFUSED_FUNCTIONS
from tests.deploy.warehouse_server_process import READER, WRITER, Server

pytestmark = pytest.mark.integration

HARMLESS_FUNCTIONS = frozenset(
    {
        *("format", "input", "loop", "merge", "null", "numbers", "numbers_mt", "primes", "values", "view", "viewifpermitted"),
        *(
            "zeros",
            "zeros_mt",
            "generaterandom",
            "generateseries",
            "generate_series",
            "fuzzjson",
            "dictionary",
            "sqlstandardvalues",
        ),
        *("mergetreeindex", "mergetreeprojection", "mergetreetextindex", "mergetreeanalyzeindexes"),
        *("mergetreeanalyzeindexesuuid", "mergetreecodecblockcounts"),
        *("prometheusquery", "prometheusqueryrange", "timeseriesdata", "timeseriesmetrics", "timeseriestags"),
        *("timeseriesselector", "timeseriessamples", "timeseriesmetricfamilies"),
    }
)


def url(server: Server, user: tuple[str, str]) -> str:
    return f"http://{user[0]}:{quote(user[1])}@127.0.0.1:{server.port}/default"


@pytest.fixture
def writer(server: Server) -> Iterator[Client]:
    client = clickhouse_connect.get_client(dsn=url(server, WRITER))
    client.command("CREATE OR REPLACE TABLE rows (a UInt32, b String, c Nullable(Float64)) ENGINE = MergeTree ORDER BY a")
    yield client
    client.close()


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", "none"])
def test_rows_come_back_as_they_went_in(server: Server, writer: Client, compress: str) -> None:
    client = clickhouse_connect.get_client(dsn=url(server, WRITER), compress=False if compress == "none" else compress)
    rows = [(number, f"it's {number}", number / 2 if number % 2 else None) for number in range(5000)]
    summary = client.insert("rows", rows, column_names=["a", "b", "c"])
    assert summary.written_rows == 5000
    assert client.query("SELECT a, b, c FROM rows ORDER BY a").result_rows == rows
    assert client.query("SELECT b FROM rows WHERE a = {n:UInt32}", parameters={"n": 7}).result_rows == [("it's 7",)]
    assert writer.command("SELECT count() FROM rows") == 5000
    client.close()


def test_rows_stream_and_a_late_failure_is_an_error(writer: Client) -> None:
    with writer.query_rows_stream("SELECT number FROM numbers(1000000)") as rows:
        assert sum(row[0] for row in rows) == 499_999_500_000
    failing = writer.query_rows_stream("SELECT throwIf(number = 2900000, 'late') FROM numbers(3000000)")
    with pytest.raises(StreamFailureError, match="late"), failing as rows:
        sum(1 for _ in rows)


def test_errors_carry_clickhouses_code(server: Server, writer: Client) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as unknown:
        writer.query("SELECT * FROM nowhere")
    assert unknown.value.code == 60
    reader = clickhouse_connect.get_client(dsn=url(server, READER))
    assert reader.query("SELECT 1").result_rows == [(1,)]
    with pytest.raises(DatabaseError) as refused:
        reader.insert("rows", [[1, "x", None]], column_names=["a", "b", "c"])
    assert refused.value.code == 164
    reader.close()
    with pytest.raises(DatabaseError) as wrong:
        clickhouse_connect.get_client(dsn=url(server, ("tailrace", "wrong")))
    assert wrong.value.code == 516


def test_raw_inserts_in_any_format(writer: Client) -> None:
    writer.raw_insert("rows", ["a", "b"], b"1,x\n2,y\n", fmt="CSV", settings={"insert_deduplicate": 0})
    assert writer.raw_query("SELECT a, b FROM rows ORDER BY a", fmt="JSONCompactEachRow") == b'[1, "x"]\n[2, "y"]\n'


def test_long_parameters_and_external_tables_come_as_a_form(writer: Client) -> None:
    wanted = list(range(0, 100_000, 3))
    counted = writer.query(
        "SELECT count() FROM numbers(100000) WHERE has({ids:Array(UInt64)}, number)", parameters={"ids": wanted}
    )
    assert counted.result_rows == [(len(wanted),)]
    units = ExternalData(file_name="units.csv", data=b"3,x\n5,y\n", fmt="CSV", structure="a UInt32, b String")
    named = writer.query("SELECT b FROM units ORDER BY a", external_data=units)
    assert named.result_rows == [("x",), ("y",)]


def test_async_clients_work_side_by_side(server: Server, writer: Client) -> None:
    async def one(number: int) -> int:
        client = await clickhouse_connect.get_async_client(dsn=url(server, WRITER))
        try:
            await client.insert("rows", [[number, "x", None]], column_names=["a", "b", "c"])
            result = await client.query("SELECT a + {n:UInt32} FROM rows WHERE a = {n:UInt32}", parameters={"n": number})
            total: int = result.result_rows[0][0]
            return total
        finally:
            await client.close()

    async def all_of_them() -> list[int]:
        return list(await asyncio.gather(*(one(number) for number in range(8))))

    assert asyncio.run(all_of_them()) == [number * 2 for number in range(8)]
    assert writer.command("SELECT count() FROM rows") == 8


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        ("table_engines", ALLOWED_ENGINES | set(REFUSED_ENGINES)),
        ("database_engines", ALLOWED_ENGINES | set(REFUSED_ENGINES)),
        ("table_functions", HARMLESS_FUNCTIONS | set(REFUSED_FUNCTIONS)),
    ],
)
def test_every_engine_and_function_of_this_version_has_been_decided_on(writer: Client, listed: str, known: set[str]) -> None:
    names = {row[0].lower() for row in writer.query(f"SELECT name FROM system.{listed}").result_rows}
    assert {name for name in names - known if not name.startswith("replicated")} == set()
