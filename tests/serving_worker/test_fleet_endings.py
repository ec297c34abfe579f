"""How worker processes end: by a signal, by a second one, with their parent, badly, and with a log that nobody reads."""

import asyncio
import fcntl
import json
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from serving_worker.config import WorkerSettings
from serving_worker.main import build_app, load
from tests.producers.event_samples import KnownSchemaIds
from tests.serving_worker.api_worker import CATALOGUE, Doorkeeper
from tests.serving_worker.child_processes import HTTP_WORKER, descendants
from tests.serving_worker.serve_process import Serve, serving, url_of
from tests.serving_worker.test_fleet import workers_told
from tests.waiting import eventually

ASK = {"unit_id": "u", "surface": "home", "k": 1}
BODY = b'{"unit_id": "u", "surface": "home", "k": 1}'
HEAD = b"POST /v1/recommendations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
ALL_OF_THEM = httpx2.Limits(max_keepalive_connections=0)
"""Each request has a connection of its own, so that twenty come to all processes."""
PIPE_BYTES = 65_536


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def asking_all(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, timeout=10, limits=ALL_OF_THEM)


def port_of(url: str) -> int:
    return httpx2.URL(url).port or 0


def statuses(client: httpx2.Client, times: int = 20) -> set[int]:
    return {client.post("/v1/recommendations", json=ASK).status_code for _ in range(times)}


def readiness(client: httpx2.Client) -> set[int]:
    return {client.get("/readyz").status_code for _ in range(20)}


def all_up(client: httpx2.Client, workers: int) -> bool:
    return eventually(lambda: statuses(client) == {200} and len(workers_told(client)) == workers, 60)


def told_again(processes: list[psutil.Process]) -> bool:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    return True


def has_ended_of_another_signal(process: subprocess.Popen[str]) -> bool:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    return process.poll() is not None


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def unread_bytes(process: subprocess.Popen[str]) -> int:
    """In the pipe that is the process's stderr."""
    assert process.stderr is not None
    [count] = struct.unpack("i", fcntl.ioctl(process.stderr, termios.FIONREAD, b"\0" * 4))
    return int(count)


def test_at_sigterm_a_worker_is_unready_and_answers_until_it_has_drained(serve: Serve) -> None:
    process = serve("--port", "0", TAILRACE_DRAIN_MS="2000")
    url = url_of(process)
    with httpx2.Client(base_url=url, timeout=10) as client:
        assert client.get("/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: client.get("/readyz").status_code == 503, 2)
        assert client.get("/readyz").json()["unready"] == {"worker": "it is going down"}
        assert client.post("/v1/recommendations", json=ASK).status_code == 200
    process.communicate(timeout=20)
    assert process.returncode == 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, timeout=5)


def test_at_sigterm_all_processes_are_unready_and_answer_until_they_have_drained(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "3", TAILRACE_DRAIN_MS="60000")
    with asking_all(url_of(process)) as client:
        assert all_up(client, 3)
        assert readiness(client) == {200}
        children = descendants(process.pid, HTTP_WORKER)
        for told in (psutil.Process(process.pid), *children):  # as a supervisor does; the parent tells its children again
            told.terminate()
        assert eventually(lambda: readiness(client) == {503}, 30)
        assert statuses(client) == {200}
        assert readiness(client) == {503}
    assert eventually(lambda: told_again(children) and process.poll() is not None, 30), "a later signal skips the wait"
    assert process.returncode == 0
    assert not any(child.is_running() for child in children)


def test_a_later_signal_to_the_parent_alone_skips_the_wait_of_all(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "2", TAILRACE_DRAIN_MS="60000")
    with asking_all(url_of(process)) as client:
        assert all_up(client, 2)
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: readiness(client) == {503}, 30)
    assert eventually(lambda: has_ended_of_another_signal(process), 30)
    assert process.returncode == 0


def test_a_fleet_that_only_finishes_requests_refuses_connections(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "2", TAILRACE_SHUTDOWN_MS="60000", TAILRACE_HTTP_BODY_TIMEOUT_MS="60000")
    url = url_of(process)
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout=30) as under_way:
        under_way.sendall(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(BODY))
        assert under_way.recv(65_536).startswith(b"HTTP/1.1 100"), "a process has it"
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: is_refused(port_of(url)), 20)
        assert process.poll() is None
        for child in descendants(process.pid, HTTP_WORKER):
            child.kill()
    process.communicate(timeout=20)


def test_workers_whose_parent_was_killed_leave_the_address_to_the_next_one(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "2")
    url = url_of(process)
    with asking_all(url) as client:
        assert all_up(client, 2)
    assert not is_free(port_of(url))
    process.kill()
    process.wait(timeout=10)
    assert eventually(lambda: is_free(port_of(url)), 30)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_log_that_nobody_reads_stops_no_answer_no_replacement_and_no_end(serve: Serve, workers: int) -> None:
    process = serve("--port", "0", "--workers", str(workers), TAILRACE_ACCESS_LOG="on")
    with asking_all(url_of(process)) as client:
        for _ in range(PIPE_BYTES // 100):  # a line is longer
            assert client.post("/v1/recommendations", json=ASK).status_code == 200
        assert eventually(lambda: unread_bytes(process) > PIPE_BYTES - 4_096, 10)
        if workers > 1:
            descendants(process.pid, HTTP_WORKER)[0].kill()
            assert all_up(client, workers)
    children = descendants(process.pid, HTTP_WORKER)
    assert len(children) == (workers if workers > 1 else 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert not any(child.is_running() for child in children)


def test_the_address_is_free_again_at_once(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "2")
    port = port_of(url_of(process))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert is_free(port)


def test_an_application_that_ends_badly_has_closed_its_emitter(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
    emitter = Doorkeeper(MemoryTransport(), KnownSchemaIds(), now_us=now_us, new_id=new_id)
    settings = WorkerSettings(catalogue, shutdown_s=5.0)
    app = build_app(settings, load(settings), emitter)

    async def ended_badly() -> None:
        async with app.router.lifespan_context(app):
            assert emitter.status().alive
            raise LookupError("whatever it is")

    with pytest.raises(LookupError):
        asyncio.run(ended_badly())
    assert not emitter.status().alive
