"""Several worker processes behind one address, and how they end."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving_worker.http.fleet_metrics import merged
from tests.serving_worker.serve_process import Serve, serving, url_of
from tests.waiting import eventually


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def workers_told(client: httpx2.Client) -> dict[str, float]:
    """Answered requests by worker."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {
        sample.labels["worker"]: sample.value
        for sample in samples
        if sample.name == "tailrace_serving_worker_requests_total" and sample.labels["status"] == "200"
    }


def ask(url: str) -> int:
    with httpx2.Client(base_url=url, timeout=10) as client:
        return client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1}).status_code


def test_one_address_tells_of_all_processes_and_a_dead_one_is_replaced(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "2")
    url = url_of(process)

    def both_have_answered() -> bool:
        assert ask(url) == 200
        with httpx2.Client(base_url=url, timeout=10) as client:
            return len(workers_told(client)) == 2

    assert eventually(both_have_answered, 60)
    with httpx2.Client(base_url=url, timeout=10) as client:
        told = workers_told(client)
    children = {str(child.pid) for child in psutil.Process(process.pid).children(recursive=True)}
    assert told.keys() <= children
    victim = next(iter(told))
    os.kill(int(victim), signal.SIGKILL)

    def replaced() -> bool:
        ask(url)
        with httpx2.Client(base_url=url, timeout=10) as client:
            now = workers_told(client)
        return len(now) == 2 and victim not in now

    assert eventually(replaced, 60)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert eventually(lambda: not any(psutil.pid_exists(int(pid)) for pid in children), 10)


def test_processes_that_cannot_come_up_say_so_and_are_started_again_after_a_while(serve: Serve, tmp_path: Path) -> None:
    process = serve("--port", "0", "--workers", "2")
    url = url_of(process)
    catalogue = tmp_path / "catalogue.json"
    kept = catalogue.read_bytes()
    catalogue.unlink()
    assert process.stderr is not None
    assert any("this process cannot come up; another is started in" in line for line in process.stderr)
    catalogue.write_bytes(kept)
    with httpx2.Client(base_url=url, timeout=60) as client:
        assert client.get("/readyz").status_code == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_at_sigterm_a_worker_is_unready_and_answers_until_it_has_drained(serve: Serve) -> None:
    process = serve("--port", "0", TAILRACE_DRAIN_MS="2000")
    url = url_of(process)
    with httpx2.Client(base_url=url, timeout=10) as client:
        assert client.get("/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: client.get("/readyz").status_code == 503, 2)
        assert client.get("/readyz").json()["unready"] == {"worker": "it is going down"}
        assert client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1}).status_code == 200
    process.communicate(timeout=20)
    assert process.returncode == 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, timeout=5)


def test_a_log_that_nobody_reads_stops_no_answer(serve: Serve) -> None:
    process = serve("--port", "0", TAILRACE_ACCESS_LOG="on")
    url = url_of(process)
    line = len(json.dumps({"route": "recommendations", "status": 200, "bytes_in": 61, "bytes_out": 154}))
    with httpx2.Client(base_url=url, timeout=10) as client:
        for _ in range(2 * 65_536 // line):  # twice what the pipe holds
            assert client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1}).status_code == 200
    assert process.stderr is not None
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    reader.start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    reader.join(timeout=10)


def test_figures_of_several_processes_stay_apart() -> None:
    text = '# HELP a_total A.\n# TYPE a_total counter\na_total{route="x"} %d.0\n'
    lines = merged({"7": text % 1, "8": text % 2}, silent=1).decode().splitlines()
    assert 'a_total{route="x",worker="7"} 1.0' in lines
    assert 'a_total{route="x",worker="8"} 2.0' in lines
    assert "tailrace_serving_worker_silent_processes 1.0" in lines
    assert len([line for line in lines if line.startswith("# TYPE a")]) == 1


def test_the_address_is_free_again_at_once(serve: Serve) -> None:
    process = serve("--port", "0", "--workers", "2")
    port = httpx2.URL(url_of(process)).port or 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    with socket.create_server(("127.0.0.1", port)):
        pass
