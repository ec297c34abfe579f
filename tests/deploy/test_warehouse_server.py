"""The embedded warehouse as any HTTP client sees it: a real server process, a real engine, a temporary directory."""

import gzip
import http.client
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import lz4.frame
import psutil
import pytest
import zstandard

from tests.deploy.warehouse_server_process import (
    DEADLINE_SECONDS,
    READER,
    WRITER,
    Reply,
    Server,
    authorization,
    start,
    stop,
)
from tests.waiting import eventually

pytestmark = pytest.mark.integration

ROWS_OF_A_LARGE_RESULT = 40_000_000


@pytest.fixture
def table(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"t_{zlib.crc32(request.node.nodeid.encode()):x}"
    guarded = "guard UInt8 DEFAULT throwIf(a = 13, 'tailrace: refused')"
    server.rows(f"CREATE TABLE {name} (a UInt64, b String, {guarded}) ENGINE = MergeTree ORDER BY a")
    yield name
    server.rows(f"DROP TABLE {name} SYNC")


def test_ping_and_liveness_need_no_password(server: Server) -> None:
    for path in ("/ping", "/", "/replicas_status"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        connection.request("GET", path)
        assert connection.getresponse().read() == b"Ok.\n"
        connection.close()


def test_a_query_comes_in_the_url_the_body_or_both(server: Server) -> None:
    assert server.ask(method="GET", query="SELECT 1").text == "1\n"
    assert server.ask("SELECT 1").text == "1\n"
    assert server.ask("AS x FORMAT CSVWithNames", query="SELECT 1").text == '"x"\n1\n'


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", "INSERT INTO {table} (a, b) VALUES (1, 'x'), ({{n:UInt8}}, concat('y', ''))"),
        ("INSERT INTO {table} (a, b) VALUES", "(1, 'x'), (2, 'y')"),
        ("INSERT INTO {table} (a, b) FORMAT CSV", '1,x\n2,"y"\n'),
        ("", "INSERT INTO {table} (a, b) FORMAT CSV\n1,x\n2,y\n"),
        (
            "",
            (
                "/* INSERT ... VALUES */ insert into {table} (a, b) settings max_insert_threads=1 format JSONEachRow "
                '{{"a":1,"b":"x"}} {{"a":2,"b":"y"}}'
            ),
        ),
        ("", "INSERT INTO {table} (a, b) SELECT 1, 'x' UNION ALL SELECT 2, 'y'"),
        ("INSERT INTO `{table}` (a, b) FORMAT TabSeparated;", "1\tx\n2\ty\n"),
    ],
)
def test_an_insert_takes_its_rows_from_wherever_they_stand(server: Server, table: str, query: str, body: str) -> None:
    arguments: dict[str, Any] = {"query": query.format(table=table)} if query else {}
    reply = server.ask(body.format(table=table), param_n=2, **arguments)
    assert (reply.status, reply.body) == (200, b""), reply.text
    assert server.rows(f"SELECT a, b FROM {table} ORDER BY a") == ["1\tx", "2\ty"]
    assert json.loads(reply.headers["x-clickhouse-summary"])["written_rows"] == "2"


def test_a_chunked_body_is_read_like_a_plain_one(server: Server, table: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
    chunks = (f"{number},row\n".encode() for number in range(100, 300))
    connection.request(
        "POST", f"/?{urlencode({'query': f'INSERT INTO {table} (a, b) FORMAT CSV'})}", chunks, authorization(WRITER)
    )
    assert connection.getresponse().status == 200
    connection.close()
    assert server.rows(f"SELECT count(), min(a), max(a) FROM {table}") == ["200\t100\t299"]


def test_a_get_request_cannot_write(server: Server, table: str) -> None:
    reply = server.ask(method="GET", query=f"INSERT INTO {table} (a) SELECT 1")
    assert (reply.code, reply.status) == (164, 500)
    assert server.rows(f"SELECT count() FROM {table}") == ["0"]


def test_a_long_query_fits_into_the_url_and_an_empty_one_is_an_error(server: Server) -> None:
    assert server.ask(query=f"SELECT length('{'x' * 100_000}')").text == "100000\n"
    assert server.ask("  ").code == 62


def test_parameters_are_values_not_text(server: Server) -> None:
    reply = server.ask("SELECT {text:String}, {number:UInt32} + 1", param_text="it's '); DROP", param_number=41)
    assert reply.text == "it\\'s \\'); DROP\t42\n"
    assert server.ask("SELECT {text:String}").code == 456


def test_settings_and_database_belong_to_their_request(server: Server) -> None:
    asked = "SELECT getSetting('max_block_size'), currentDatabase()"
    assert server.rows(asked, max_block_size=777, database="system") == ["777\tsystem"]
    assert server.rows(asked) == ["65409\tdefault"]
    assert server.rows(asked, max_block_size=5) == ["5\tdefault"]
    unknown = server.ask("SELECT 1", no_such_setting=1)
    assert (unknown.code, unknown.status) == (115, 404)
    assert server.ask("SELECT 1", database="nowhere").code == 81


def test_formats_come_from_the_query_the_url_or_a_header(server: Server) -> None:
    assert server.ask("SELECT 1 AS x", default_format="JSONEachRow").text == '{"x":1}\n'
    assert server.ask("SELECT 1 AS x", headers={"X-ClickHouse-Format": "CSV"}).headers["x-clickhouse-format"] == "CSV"
    assert server.ask("SELECT 1 AS x FORMAT JSON").headers["content-type"].startswith("application/json")
    empty = json.loads(server.ask("SELECT 1 AS x WHERE 0 FORMAT JSON").body)
    assert (empty["rows"], empty["meta"]) == (0, [{"name": "x", "type": "UInt8"}])


def test_go_clients_get_native_blocks_of_their_revision(server: Server) -> None:
    asked: dict[str, Any] = {"client_protocol_version": 54460, "default_format": "Native"}
    reply = server.ask("SELECT 'x' AS a", enable_http_compression=1, headers={"Accept-Encoding": "gzip"}, **asked)
    assert gzip.decompress(reply.body) == b"\x01\x00\x02\xff\xff\xff\xff\x00" + b"\x01\x01\x01a\x06String\x00\x01x"
    assert server.ask("SELECT 'x' AS a FORMAT Native", client_protocol_version=54405).body == b"\x01\x01\x01a\x06String\x01x"
    large = server.ask("SELECT number FROM numbers(1000000)", **asked)
    assert len(large.body) > 8_000_000


def test_a_session_keeps_what_it_was_told(server: Server) -> None:
    server.rows("SET max_block_size = 4321", session_id="kept")
    server.rows("CREATE TEMPORARY TABLE mine (a UInt8)", session_id="kept", max_columns_to_read=2)
    server.rows("INSERT INTO mine VALUES (7)", session_id="kept")
    assert server.rows("SELECT a, getSetting('max_block_size') FROM mine", session_id="kept", max_columns_to_read=3) == [
        "7\t4321"
    ]
    assert server.rows("SELECT getSetting('max_columns_to_read')", session_id="kept") == ["0"]
    assert server.ask("SELECT * FROM mine").code == 60
    assert server.ask("SELECT 1", session_id="never begun", session_check=1).code == 372
    assert server.ask("SELECT * FROM mine", user=READER, session_id="kept").code == 60


def test_the_answer_tells_about_itself(server: Server) -> None:
    reply = server.ask("SELECT number FROM numbers(10)", query_id="named by its client")
    assert reply.headers["x-clickhouse-query-id"] == "named by its client"
    assert reply.headers["x-clickhouse-format"] == "TabSeparated"
    assert reply.headers["x-clickhouse-timezone"]
    assert json.loads(reply.headers["x-clickhouse-summary"])["read_rows"] == "10"


@pytest.mark.parametrize(
    ("sql", "status", "code", "text"),
    [
        ("SELEC 1", 400, 62, "Syntax error"),
        ("SELECT * FROM nowhere", 404, 60, "UNKNOWN_TABLE"),
        ("SELECT nothing", 404, 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT throwIf(1, 'no')", 500, 395, "no"),
        ("SELECT 1; SELECT 2", 400, 62, "Multi-statements"),
        ("SELECT 1 FORMAT Nothing", 404, 73, "Unknown format Nothing"),
    ],
)
def test_errors_are_clickhouses_own(server: Server, sql: str, status: int, code: int, text: str) -> None:
    reply = server.ask(sql)
    assert (reply.status, reply.code) == (status, code)
    assert reply.text.startswith(f"Code: {code}. DB::Exception: ")
    assert reply.text.count("DB::Exception") == 1
    assert text in reply.text


def test_wrong_credentials_are_refused_and_never_written_down(server: Server) -> None:
    assert server.ask("SELECT 1", user=("tailrace", "a wrong password")).code == 516
    assert server.ask("SELECT 1", user=("nobody", "x")).status == 403
    assert server.ask("SELECT 1", user=None).status == 401
    assert server.ask("SELECT 1", user=None, user_name="x").code == 194
    key = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": READER[1]}
    assert server.ask("SELECT 1", user=None, headers=key).text == "1\n"
    logged = server.log.read_text()
    assert "a wrong password" not in logged
    assert READER[1] not in logged


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO {table} (a) VALUES (1)",
        "INSERT INTO {table} (a) SELECT 1",
        "DROP TABLE {table}",
        "CREATE TABLE other (a UInt8) ENGINE = Memory",
        "ALTER TABLE {table} DELETE WHERE 1",
        "SYSTEM FLUSH LOGS",
        "SET readonly = 0",
    ],
)
def test_the_reader_cannot_write(server: Server, table: str, sql: str) -> None:
    assert server.ask(sql.format(table=table), user=READER).code == 164
    assert server.rows(f"SELECT count() FROM {table}", user=READER) == ["0"]


def test_the_reader_can_lower_its_limits_and_not_lift_them(server: Server) -> None:
    assert server.ask("SELECT sleepEachRow(0.5) FROM numbers(6)", user=READER, max_execution_time=1).code == 159
    assert server.ask("SELECT 1", user=READER, max_execution_time=0).code == 452
    assert server.ask("SELECT 1", user=READER, max_memory_usage=1 << 60).code == 452
    assert server.ask("SELECT 1 SETTINGS max_memory_usage = 0", user=READER).code == 452
    assert server.ask("SELECT 1", user=READER, readonly=0).code == 164
    assert server.ask("SELECT groupArray(number) FROM numbers(5000000)", user=READER, max_memory_usage=1_000_000).code == 241


COMPRESSORS = {
    "gzip": (gzip.compress, gzip.decompress),
    "deflate": (zlib.compress, zlib.decompress),
    "lz4": (lz4.frame.compress, lz4.frame.decompress),
    "zstd": (zstandard.compress, lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
}


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_bodies_are_compressed_both_ways(server: Server, table: str, encoding: str) -> None:
    compress, decompress = COMPRESSORS[encoding]
    body = compress("".join(f"{number}\tx\n" for number in range(100, 50_100)).encode())
    sent = server.ask(body, headers={"Content-Encoding": encoding}, query=f"INSERT INTO {table} (a, b) FORMAT TSV")
    assert sent.status == 200, sent.text
    asked = f"SELECT a FROM {table} ORDER BY a"
    reply = server.ask(asked, headers={"Accept-Encoding": encoding}, enable_http_compression=1)
    assert reply.headers["content-encoding"] == encoding
    assert decompress(reply.body).splitlines()[-1] == b"50099"
    assert "content-encoding" not in server.ask(asked, headers={"Accept-Encoding": encoding}).headers


def test_what_is_not_compressed_as_it_says_is_refused(server: Server, table: str) -> None:
    insert = f"INSERT INTO {table} (a, b) FORMAT TSV"
    assert server.ask(b"1\tx\n", headers={"Content-Encoding": "zstd"}, query=insert).code == 271
    assert server.ask(gzip.compress(b"1\tx\n2\ty\n")[:-9], headers={"Content-Encoding": "gzip"}, query=insert).code == 271
    assert server.ask(b"1\tx\n", headers={"Content-Encoding": "br"}, query=insert).code == 89
    assert server.ask(b"1\tx\n", decompress=1, query=insert).code == 48
    assert server.rows(f"SELECT count() FROM {table}") == ["0"]


def test_a_refused_insert_leaves_nothing_behind(server: Server, table: str) -> None:
    rows = "".join(f"{number}\n" for number in range(200_000))
    block = {"max_insert_threads": 1, "max_insert_block_size": 1_000_000, "min_insert_block_size_rows": 1_000_000}
    whole: dict[str, Any] = {**block, "min_insert_block_size_bytes": 0, "insert_deduplicate": 0, "async_insert": 0}
    reply = server.ask(rows, query=f"INSERT INTO {table} (a) FORMAT TSV", **whole)
    assert reply.code == 395
    assert "tailrace: refused" in reply.text
    assert "transit" not in reply.text
    assert server.rows(f"SELECT count() FROM {table}") == ["0"]


def test_a_body_that_breaks_off_inserts_nothing(server: Server, table: str) -> None:
    query = urlencode({"query": f"INSERT INTO {table} (a) FORMAT TSV"})
    password = authorization(WRITER)["Authorization"]
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as client:
        head = f"POST /?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode() + b"1\n2\n3\n")
    assert server.rows(f"SELECT count() FROM {table}") == ["0"]
    assert eventually(lambda: 'outcome="cancelled"' in metrics(server), DEADLINE_SECONDS)
    assert server.rows(f"SELECT count() FROM {table}") == ["0"]


def metrics(server: Server) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_metrics_count_queries_by_kind_and_outcome(server: Server, table: str) -> None:
    server.ask(f"INSERT INTO {table} (a) VALUES (1)")
    server.ask("SELECT nothing")
    text = metrics(server)
    assert 'tailrace_warehouse_server_queries_total{kind="insert",outcome="ok"}' in text
    assert 'tailrace_warehouse_server_queries_total{kind="read",outcome="error"}' in text
    assert "tailrace_warehouse_server_query_seconds_bucket" in text


def test_a_running_insert_is_found_by_its_log_comment_and_killed(server: Server, table: str) -> None:
    rows = "".join(f"{number}\n" for number in range(100, 3_000_000))
    replies: list[Reply] = []
    sending = threading.Thread(
        target=lambda: replies.append(
            server.ask(rows, query=f"INSERT INTO {table} (a) FORMAT TSV", log_comment="batch 7", max_insert_threads=1)
        )
    )
    sending.start()
    mine = "Settings['log_comment'] = 'batch 7' AND query ILIKE 'insert%'"
    assert eventually(lambda: server.rows(f"SELECT count() FROM system.processes WHERE {mine}") == ["1"], DEADLINE_SECONDS), (
        "not in time"
    )
    killed = server.rows(f"KILL QUERY WHERE {mine} SYNC")
    sending.join(DEADLINE_SECONDS)
    assert killed[0].startswith("finished")
    assert replies[0].code == 394
    assert server.rows(f"SELECT count() FROM system.processes WHERE {mine}") == ["0"]


def test_a_query_ends_when_its_client_has_gone(server: Server) -> None:
    mine = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = 'left alone'"
    sql = b"SELECT sum(cityHash64(number)) FROM numbers(100000000000)"
    password = authorization(WRITER)["Authorization"]
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as client:
        head = f"POST /?log_comment=left+alone HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\n"
        client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(sql) + sql)
        assert eventually(lambda: server.rows(mine) == ["1"], DEADLINE_SECONDS)
    assert eventually(lambda: server.rows(mine) == ["0"], DEADLINE_SECONDS)


def test_a_large_result_streams_in_bounded_memory(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
    sql = f"SELECT number FROM numbers({ROWS_OF_A_LARGE_RESULT}) FORMAT RowBinary"
    before = process.memory_info().rss
    connection.request("POST", "/", sql.encode(), authorization(WRITER))
    response, received, most = connection.getresponse(), 0, before
    while part := response.read(1 << 20):
        received += len(part)
        if received % (1 << 25) < len(part):
            most = max(most, process.memory_info().rss)
    connection.close()
    assert received == ROWS_OF_A_LARGE_RESULT * 8
    assert most - before < 100 << 20


def test_no_client_takes_a_result_that_failed_in_its_middle_for_the_whole(server: Server) -> None:
    failing = "SELECT throwIf(number = 2500000, 'late'), number FROM numbers(3000000)"
    with pytest.raises(http.client.IncompleteRead) as broken:
        server.ask(failing)
    assert b"__exception__" in broken.value.partial
    assert b"late" in broken.value.partial
    assert server.ask(failing, wait_end_of_query=1).code == 395


def test_eight_clients_read_and_write_at_once(server: Server, table: str) -> None:
    failures: list[str] = []

    def work(client: int) -> None:
        for turn in range(10):
            number = 100 + client * 10 + turn
            written = server.ask(f"{number}\n", query=f"INSERT INTO {table} (a) FORMAT TSV", max_block_size=number)
            read = server.ask(
                f"SELECT count(), getSetting('max_block_size') FROM {table} WHERE a = {number}", max_block_size=number
            )
            if (written.status, read.text) != (200, f"1\t{number}\n"):
                failures.append(written.text + read.text)

    clients = [threading.Thread(target=work, args=(client,)) for client in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(DEADLINE_SECONDS)
    assert failures == []
    assert server.rows(f"SELECT count(), uniqExact(a) FROM {table}") == ["80\t80"]


def test_past_the_bound_of_waiting_queries_the_answer_is_error_202(tmp_path: Path) -> None:
    small = start(tmp_path / "small", "--running-queries", "1", "--waiting-queries", "1")
    replies: list[Reply] = []
    slow = "SELECT sleepEachRow(0.5) FROM numbers(4)"
    clients = [threading.Thread(target=lambda: replies.append(small.ask(slow))) for _ in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(DEADLINE_SECONDS)
    assert sorted(reply.code for reply in replies) == [0, 0, 202, 202, 202, 202]
    assert 'tailrace_warehouse_server_rejected_total{reason="too_many_queries"} 4.0' in metrics(small)
    assert stop(small) == 0


def test_an_error_that_quotes_bytes_which_are_no_text_keeps_its_code(server: Server) -> None:
    refused = server.ask("SELECT toInt32(unhex('fffe41'))")

    assert refused.code == 6
    assert "Cannot parse string '\ufffd\ufffdA' as Int32" in refused.text
