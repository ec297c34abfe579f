"""Workers under load with everything behind them: a stack, a sink, a reader of scorecards.

The workers have one core, all the rest another, where there are two; the load stands before the rest on its core.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.blast_radius.load import Block
from tests.faults.stack import LocalStack, local_stack

ITEMS = 100
START_LIMIT_S = 60
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


@dataclass(frozen=True, slots=True)
class Ground:
    """`emitting` and `silent` are workers that differ in their emitter only: the silent one's takes everything, sends nothing."""

    stack: LocalStack
    emitting: Worker
    silent: Worker
    sink: psutil.Process

    def block(self, worker: Worker, load: Load) -> Block:
        command = [sys.executable, "-m", "tests.blast_radius.load", worker.url, str(load.requests_per_s), str(load.seconds), "0"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=BLOCK_LIMIT_S, preexec_fn=_before_the_rest
        )
        assert done.returncode == 0, done.stderr
        return Block(**json.loads(done.stdout))


@contextmanager
def ground(directory: Path) -> Iterator[Ground]:
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as standing:
        standing.callback(os.sched_setaffinity, 0, cores)
        os.sched_setaffinity(0, cores[1:] or cores)
        stack = standing.enter_context(local_stack(directory / "stack"))
        catalogue = directory / "catalogue.json"
        catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
        variables = {
            **stack.variables,
            "TAILRACE_CATALOGUE_FILE": str(catalogue),
            "TAILRACE_SERVING_SEED": "2026",
            "TAILRACE_SPOOL_DIR": str(directory / "spool"),
        }
        sink = standing.enter_context(_running(variables, directory / "sink.log", "deploy.cli", "sink"))
        emitting = standing.enter_context(_worker(variables, directory, "deploy.cli", cores[:1]))
        silent = standing.enter_context(_worker(variables, directory, "tests.blast_radius.silent_worker", cores[:1]))
        yield Ground(stack, emitting, silent, psutil.Process(sink.pid))


@contextmanager
def _worker(variables: Mapping[str, str], directory: Path, module: str, cores: list[int]) -> Iterator[Worker]:
    log = directory / f"{module}.log"
    with _running(variables, log, module, "serve", "--port", "0") as process:
        psutil.Process(process.pid).cpu_affinity(cores)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), log.read_text(encoding="utf-8")
        yield Worker(psutil.Process(process.pid), line.removeprefix("serving on ").strip())


@contextmanager
def _running(variables: Mapping[str, str], log: Path, *module: str) -> Iterator["subprocess.Popen[str]"]:
    with log.open("w", encoding="utf-8") as errors:
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


def _before_the_rest() -> None:
    """The load's lateness would be laid at the worker's door. Only the superuser may go before others."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
