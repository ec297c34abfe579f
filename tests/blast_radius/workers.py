"""Workers on cores of their own, and blocks of load on them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

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


class Restartable:
    """`python -m module …` that can be killed and is started again. Use it as a context."""

    def __init__(self, variables: Mapping[str, str], log: Path, cores: list[int], *module: str) -> None:
        self._start = partial(running, variables, log, cores, *module)
        self._standing = ExitStack()

    def __enter__(self) -> Self:
        self._process = self._standing.enter_context(self._start())
        return self

    def __exit__(self, *_error: object) -> None:
        self._standing.close()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """kill -9, and it is not there until the block ends."""
        self._process.kill()
        self._standing.close()
        try:
            yield
        finally:
            self._process = self._standing.enter_context(self._start())

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """SIGSTOP until the block ends."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def block(worker: Worker, load: Load) -> Block:
    """With what the machine's host took of the worker's first core meanwhile."""
    core = worker.process.cpu_affinity()[0]
    before = psutil.cpu_times(percpu=True)[core]
    found = block_of(worker.url, load)
    after = psutil.cpu_times(percpu=True)[core]
    return replace(found, stolen_share=(after.steal - before.steal) / max(sum(after) - sum(before), 1e-9))


def block_of(url: str, load: Load) -> Block:
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
