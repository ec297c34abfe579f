"""`tailrace serve` as a process, before a broker and a registry that are not there."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from schemas.events import Interaction, ProducerCheckpoint, RecommendationServed
from schemas.topics import INTERACTIONS, PRODUCER_CHECKPOINTS, RECOMMENDATIONS
from tests.producers.kafka_log import Log
from tests.serving_worker.serve_process import SERVING_ALONE, Serve, serving, url_of
from tests.waiting import eventually


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def test_it_answers_without_kafka_and_ends_in_good_order_with_sigterm(serve: Serve) -> None:
    process = serve("--port", "0")
    url = url_of(process)
    with httpx2.Client(base_url=url, timeout=10) as client:
        durations = []
        for _ in range(200):
            began = time.monotonic()
            answer = client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1})
            durations.append(time.monotonic() - began)
            assert answer.json()["items"] == [{"item_id": "a", "position": 0}]
        assert client.get("/readyz").status_code == 200
    assert sorted(durations)[100] < 0.03, "Nagle's delay is 40 ms"
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "200 events were not delivered" in log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_host_that_has_serving_alone_answers_and_ends_in_good_order(serve: Serve, workers: str) -> None:
    process = serve(program=SERVING_ALONE, TAILRACE_HTTP_PORT="0", TAILRACE_HTTP_WORKERS=workers)
    with httpx2.Client(base_url=url_of(process), timeout=10) as client:
        answer = client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1})
    assert answer.json()["items"] == [{"item_id": "a", "position": 0}]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_request_that_is_under_way_is_finished_after_sigterm(serve: Serve) -> None:
    process = serve("--port", "0", TAILRACE_SHUTDOWN_MS="5000")
    url = httpx2.URL(url_of(process))
    body = b'{"unit_id": "u", "surface": "home", "k": 1}'
    head = b"POST /v1/recommendations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body[:10])
        with httpx2.Client(base_url=url, timeout=10) as client:
            assert client.get("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        connection.sendall(body[10:])
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(lambda: b"".join(iter(lambda: connection.recv(65_536), b""))).result(timeout=15)
    assert answer.startswith(b"HTTP/1.1 200")
    process.communicate(timeout=20)
    assert process.returncode == 0


COSTLY = """
import os
from pathlib import Path
from serving_worker.rankers.popularity import Popularity

class Costly(Popularity):
    def __init__(self):
        with Path(__file__).with_name("made").open("a") as file:
            print(os.getpid(), file=file)
"""


def test_a_worker_makes_the_policy_in_charge_once(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "costly.py").write_text(COSTLY, encoding="utf-8")
    found = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    process = serve("--port", "0", PYTHONPATH=found, TAILRACE_RANKERS="costly=costly:Costly", TAILRACE_DEFAULT_POLICY="costly")
    answer = httpx2.post(f"{url_of(process)}/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1}, timeout=10)
    assert answer.json()["items"] == [{"item_id": "a", "position": 0}]
    made = (tmp_path / "made").read_text(encoding="utf-8").split()
    assert made.count(str(process.pid)) == 1


HEAD = b"POST /v1/recommendations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = b'{"unit_id": "u", "surface": "home", "k": 1}'
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
HEAD_TIMEOUT_S = 0.4


def answer_to(connection: socket.socket, sent: bytes) -> bytes:
    """All of it, where it has items."""
    connection.sendall(sent)
    answer = b""
    while not answer.endswith(b"}]}"):
        received = connection.recv(65_536)
        assert received, "it is still open"
        answer += received
    return answer


@pytest.fixture
def connect(serve: Serve) -> Iterator[Callable[[], socket.socket]]:
    url = httpx2.URL(url_of(serve("--port", "0", TAILRACE_HTTP_HEAD_TIMEOUT_MS=str(int(HEAD_TIMEOUT_S * 1_000)))))
    with ExitStack() as connections:
        yield lambda: connections.enter_context(socket.create_connection((url.host, url.port or 0), timeout=4))


PARTS = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "half a line": b"POST /v1/reco",
    "some headers": HEAD,
    "headers after an answer": WHOLE + HEAD,
    "a line after an answer": WHOLE + b"\r\n",
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_connection_without_a_whole_head_is_closed_in_time(connect: Callable[[], socket.socket], part: bytes) -> None:
    connection = connect()
    if part.startswith(WHOLE):
        assert answer_to(connection, WHOLE).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    connection.sendall(part.removeprefix(WHOLE))
    assert connection.recv(65_536) == b""
    assert HEAD_TIMEOUT_S - 0.1 < time.monotonic() - began < 4, "an idle connection has 5 s"


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.settimeout(HEAD_TIMEOUT_S / 10)
    sent = 0

    def closed() -> bool:
        nonlocal sent
        try:
            connection.sendall(WHOLE[sent : sent + 1])
            sent += 1
            return connection.recv(65_536) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    assert eventually(closed, 3)
    assert sent < len(HEAD), "the head is not through"


def test_a_slow_body_and_a_pause_after_an_answer_have_limits_of_their_own(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.settimeout(2 * HEAD_TIMEOUT_S)
    connection.sendall(WHOLE[:-10])
    with pytest.raises(TimeoutError):
        connection.recv(1)
    for rest in (WHOLE[-10:], WHOLE):
        assert answer_to(connection, rest).startswith(b"HTTP/1.1 200")
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_port_that_is_taken_is_said_with_what_to_do(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serve("--port", str(port))
        _, log = process.communicate(timeout=20)
    assert process.returncode == 3
    assert f"127.0.0.1:{port}" in log
    assert "TAILRACE_HTTP_PORT" in log


def test_wrong_settings_end_it_with_all_of_them_named(serve: Serve) -> None:
    process = serve(TAILRACE_CATALOGUE_FILE="", TAILRACE_K_MAX="0", TAILRACE_HTTP_PORT="x")
    _, log = process.communicate(timeout=20)
    assert process.returncode == 2
    assert all(name in log for name in ("TAILRACE_CATALOGUE_FILE", "TAILRACE_K_MAX", "TAILRACE_HTTP_PORT"))


@pytest.mark.integration
def test_what_was_answered_is_in_the_topics_when_the_worker_has_ended(serve: Serve, installation: Mapping[str, str]) -> None:
    process = serve("--port", "0", **{**installation, "TAILRACE_SHUTDOWN_MS": "15000"})
    with httpx2.Client(base_url=url_of(process), timeout=10) as client:
        ask = {"unit_id": "u", "surface": "home", "k": 1}
        asked = [client.post("/v1/recommendations", json=ask).json()["request_id"] for _ in range(50)]
        click = {"unit_id": "u", "surface": "home", "item_id": "a", "kind": "click", "request_id": asked[0]}
        taken = client.post("/v1/interactions", json=click).json()["event_ids"]
    process.send_signal(signal.SIGTERM)
    _, log_of_process = process.communicate(timeout=30)
    assert process.returncode == 0, log_of_process
    log = Log(installation)
    assert [served.request_id for served in log.read(RecommendationServed, RECOMMENDATIONS)] == asked
    assert [(event.event_id, event.request_id) for event in log.read(Interaction, INTERACTIONS)] == [(taken[0], asked[0])]
    checkpoints = log.read(ProducerCheckpoint, PRODUCER_CHECKPOINTS)
    assert {(c.topic, c.next_seq) for c in checkpoints if c.closed} == {("recommendations", 50), ("interactions", 1)}
