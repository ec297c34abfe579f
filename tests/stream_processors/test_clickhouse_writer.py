"""The HTTP edge against servers that behave badly: the guarantee that nothing is sent twice is the client's."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.errors import PartUnreachable
from stream_processors.warehouse.clickhouse_writer import Address, ClickHouseWriter
from stream_processors.warehouse.errors import NoAnswer, Refused


class BadServer(ThreadingHTTPServer):
    """Answers the settings query, then does to each insert what `behaviour` says, and keeps what it received."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = "clean"
        self.inserts: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://tailrace:secret@127.0.0.1:{self.server_address[1]}/tailrace"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BadServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "system.settings" in self.path:
            self._answer(200, b"async_insert\ninsert_deduplicate\nmax_insert_block_size\n")
            return
        self.server.inserts.append(body)
        match self.server.behaviour:
            case "clean":
                self._answer(200, b"")
            case "close after":
                self._answer(200, b"")
                self.close_connection = True
            case "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "refuse":
                self._answer(500, b"Code: 395. DB::Exception: tailrace: not the owner", {"X-ClickHouse-Exception-Code": "395"})
            case "late error":
                self._answer(200, b"Code: 241. DB::Exception: Memory limit", {"X-ClickHouse-Exception-Code": "241"})

    def log_message(self, *_arguments: object) -> None:
        """Be quiet."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join(5)


@pytest.fixture
def writer(server: BadServer) -> Iterator[ClickHouseWriter]:
    writing = ClickHouseWriter(server.url, {}, 1000)
    yield writing
    writing.close()


def insert(writer: ClickHouseWriter, body: bytes = b"batch") -> None:
    writer.insert("interactions", ("_envelope", "item_id"), body, "tailrace test")


def test_a_connection_that_closes_before_the_answer_is_no_answer_and_the_insert_was_sent_once(
    server: BadServer, writer: ClickHouseWriter
) -> None:
    server.behaviour = "drop"

    with pytest.raises(NoAnswer):
        insert(writer)

    assert server.inserts == [b"batch"]


def test_connections_that_the_server_closes_between_inserts_never_make_one_be_sent_twice(
    server: BadServer, writer: ClickHouseWriter
) -> None:
    server.behaviour = "close after"
    acknowledged = []
    for number in range(20):
        body = b"%d" % number
        with suppress(NoAnswer):
            insert(writer, body)
            acknowledged.append(body)

    assert len(set(server.inserts)) == len(server.inserts)
    assert set(acknowledged) <= set(server.inserts)
    assert acknowledged


def test_an_error_comes_with_clickhouses_code_and_words(server: BadServer, writer: ClickHouseWriter) -> None:
    server.behaviour = "refuse"

    with pytest.raises(Refused, match="tailrace: not the owner") as refused:
        insert(writer)

    assert refused.value.code == 395
    assert not refused.value.blames_the_data


def test_an_error_after_the_status_line_is_an_error(server: BadServer, writer: ClickHouseWriter) -> None:
    server.behaviour = "late error"

    with pytest.raises(Refused) as refused:
        insert(writer)

    assert refused.value.code == 241


def test_only_settings_that_the_server_has_are_sent(writer: ClickHouseWriter) -> None:
    assert writer.insert_settings.keys() == {"async_insert", "insert_deduplicate", "max_insert_block_size", "wait_end_of_query"}
    assert writer.insert_settings["insert_deduplicate"] == "0"


def test_a_warehouse_that_is_away_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with pytest.raises(PartUnreachable) as away:
        ClickHouseWriter(f"http://tailrace:secret@127.0.0.1:{port}/tailrace", {}, 1000)

    assert f"127.0.0.1:{port}" in str(away.value)
    assert "secret" not in str(away.value)


def test_an_address_is_read_from_one_url() -> None:
    address = Address.from_url("https://us%40er:p%2Fw@host/da%20ta")

    assert (address.user, address.password, address.host, address.port) == ("us@er", "p/w", "host", 8443)
    assert (address.secure, address.database) == (True, "da ta")
