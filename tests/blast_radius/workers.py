"""Workers on cores of their own, and blocks of load on them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.blast_radius.load import Block

ITEMS = 100
END_LIMIT_S = 30
BLOCK_LIMIT_S = 300
CATALOGUE = {
    "surfaces": {
        "home": {
            "candidate_set_id": "blast-radius",
            "items": [{"item_id": f"item-{place}", "score": 1 / (place + 1)} for place in range(ITEMS)],
        }
    }
}


@dataclass(frozen=True, slots=True)
class Load:
    """Every block has the same requests."""

    requests_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Worker:
    process: psutil.Process
    url: str


def write_catalogue(directory: Path) -> Path:
    """The one of which every load asks."""
    path = directory / "catalogue.json"
    path.write_text(json.dumps(CATALOGUE), encoding="utf-8")
    return path


@contextmanager
def worker(variables: Mapping[str, str], log: Path, cores: list[int], *module: str) -> Iterator[Worker]:
    """`python -m module …`, which prints its URL once it takes requests."""
    with running(variables, log, cores, *module) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), log.read_text(encoding="utf-8")
        yield Worker(psutil.Process(process.pid), line.removeprefix("serving on ").strip())


@contextmanager
def running(variables: Mapping[str, str], log: Path, cores: list[int], *module: str) -> Iterator["subprocess.Popen[str]"]:
    with log.open("w", encoding="utf-8") as errors:
        with on(cores):  # inherited, by all threads that it will have
            process = subprocess.Popen(
                [sys.executable, "-m", *module], env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@contextmanager
def on(cores: list[int]) -> Iterator[None]:
    """This thread, and what it starts, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def block(url: str, load: Load) -> Block:
    """From a process on the caller's cores, before the rest there."""
    command = [sys.executable, "-m", "tests.blast_radius.load", url, str(load.requests_per_s), str(load.seconds), "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=BLOCK_LIMIT_S, preexec_fn=_before_the_rest
    )
    assert done.returncode == 0, done.stderr
    return Block(**json.loads(done.stdout))


def _before_the_rest() -> None:
    """The load's lateness would be laid at the worker's door. Only the superuser may go before others."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
