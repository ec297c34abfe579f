"""Several worker processes behind one address; test_fleet_endings.py has how they end."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx2
import psutil
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from uvicorn.config import STARTUP_FAILURE

from serving_worker.http.fleet_metrics import SAMPLES_A_TURN, Fleet, merged, told
from tests.serving_worker.child_processes import HTTP_WORKER, descendants
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
    assert "tailrace_serving_worker_silent_processes 0.0\n" in httpx2.get(f"{url}/metrics", timeout=10).text
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


SILENT = "tailrace_serving_worker_silent_processes"


def test_a_process_comes_up_whose_directory_was_swept_away_and_silent_ones_are_counted(
    serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("short")
    process = serve("--port", "0", "--workers", "2", TMPDIR=str(temporary))
    url = url_of(process)

    def silent(number: int) -> bool:
        return f"{SILENT} {number}.0\n" in httpx2.get(f"{url}/metrics", timeout=10).text

    assert eventually(lambda: silent(0), 60)
    [directory] = temporary.glob("tailrace-serve-*")
    shutil.rmtree(directory)
    assert silent(1)
    [victim, _] = descendants(process.pid, HTTP_WORKER)
    victim.kill()
    assert eventually(lambda: [*directory.glob("*.sock")] != [], 60), "the next one tells again"
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_processes_tell_of_each_other_where_the_path_to_temporary_files_is_long(serve: Serve, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    url = url_of(serve("--port", "0", "--workers", "2", TMPDIR=str(long)))
    assert eventually(lambda: f"{SILENT} 0.0\n" in httpx2.get(f"{url}/metrics", timeout=60).text, 60)


FRAGILE = (sys.executable, "-m", "tests.serving_worker.fleet_to_be_broken")


def startups(process: subprocess.Popen[str]) -> Iterator[str]:
    """What its log says of processes that are up, as it comes."""
    assert process.stderr is not None
    return (line for line in process.stderr if "Application startup complete" in line)


def test_a_replacement_that_cannot_come_up_costs_the_others_nothing_and_is_tried_again(serve: Serve, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    process = serve(str(broken), program=FRAGILE)
    url = url_of(process)
    assert len([*islice(startups(process), 2)]) == 2
    broken.touch()
    descendants(process.pid, HTTP_WORKER)[0].kill()
    assert process.stderr is not None
    assert any("a process cannot come up; another is started in" in line for line in process.stderr)
    assert httpx2.get(url, timeout=10).status_code == 200
    broken.unlink()
    assert next(startups(process))
    assert len(descendants(process.pid, HTTP_WORKER)) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_process_that_there_is_no_room_for_is_started_when_there_is(serve: Serve, tmp_path: Path) -> None:
    process = serve(str(tmp_path / "broken"), program=FRAGILE)
    assert len([*islice(startups(process), 2)]) == 2
    parent = psutil.Process(process.pid)
    usual = parent.rlimit(psutil.RLIMIT_NOFILE)
    assert usual is not None
    parent.rlimit(psutil.RLIMIT_NOFILE, (3, usual[1]))
    descendants(process.pid, HTTP_WORKER)[0].kill()
    assert process.stderr is not None
    assert any("Too many open files" in line for line in process.stderr)
    parent.rlimit(psutil.RLIMIT_NOFILE, usual)
    assert eventually(lambda: len(descendants(process.pid, HTTP_WORKER)) == 2, 30)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_fleet_of_which_no_process_comes_up_ends_and_its_exit_code_says_so(serve: Serve, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    process = serve(str(broken), program=FRAGILE)
    _, log = process.communicate(timeout=60)
    assert "as it is to be" in log
    assert process.returncode == STARTUP_FAILURE


def figures(value: float, labelled: int = 1) -> CollectorRegistry:
    """What a process may tell: names that need escapes, histograms, and a family that nothing was counted in."""
    registry = CollectorRegistry()
    counter = Counter("a", "A,\nof two lines.", ["of"], registry=registry)
    for number in range(labelled):
        counter.labels(f'{number}"\n# HELP a \\').inc(value)
    Histogram("b_seconds", "B.", registry=registry).observe(value)
    Gauge("c", "C.", ["of"], registry=registry)
    return registry


Samples = set[tuple[str, tuple[tuple[str, str], ...], float]]


def samples_in(text: bytes) -> Samples:
    families = text_string_to_metric_families(text.decode())
    return {(one.name, tuple(sorted(one.labels.items())), one.value) for family in families for one in family.samples}


def of_worker(samples: Samples, worker: str) -> Samples:
    return {(name, tuple(sorted((*labels, ("worker", worker)))), value) for name, labels, value in samples}


def test_figures_of_several_processes_stay_apart_and_nothing_of_them_is_lost() -> None:
    registries = {"7": figures(1), "8": figures(2)}
    text = merged([asyncio.run(told(registry, {"worker": worker})) for worker, registry in registries.items()])
    own = {worker: samples_in(generate_latest(registry)) for worker, registry in registries.items()}
    assert samples_in(text) == of_worker(own["7"], "7") | of_worker(own["8"], "8")
    heads = [line for line in text.splitlines() if line.startswith(b"# TYPE")]
    assert len(heads) == len(set(heads)) == generate_latest(registries["7"]).count(b"\n# TYPE")


def test_others_have_turns_while_many_figures_are_told(tmp_path: Path) -> None:
    registry, samples = figures(1, labelled=2_000), 4_000

    async def turns_during_a_scrape(directory: Path | None) -> int:
        fleet = Fleet(registry, directory)
        async with fleet.telling():
            scrape = asyncio.create_task(fleet.exposition())
            turns = 0
            while not scrape.done():
                await asyncio.sleep(0)
                turns += 1
        assert (await scrape).count(b"\n") > samples
        return turns

    assert all(asyncio.run(turns_during_a_scrape(directory)) >= samples / SAMPLES_A_TURN for directory in (None, tmp_path))


def test_a_process_that_hangs_is_silent_and_one_that_died_is_not_counted(tmp_path: Path) -> None:
    async def scraped() -> bytes:
        with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as dead:
            hanging.bind(str(tmp_path / "7.sock"))
            hanging.listen()
            dead.bind(str(tmp_path / "8.sock"))
            fleet = Fleet(CollectorRegistry(), tmp_path, processes=2)
            async with fleet.telling():
                return await fleet.exposition()

    assert b"tailrace_serving_worker_silent_processes 1.0\n" in asyncio.run(scraped())
    assert [path.name for path in tmp_path.iterdir()] == ["7.sock"]
