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
import urllib3

from tests.blast_radius.arms import POLICY, write_experiment
from tests.blast_radius.load import Block
from tests.faults.stack import LocalStack, local_stack
from tests.serving_worker.hostile_rankers import HOSTILE
from tests.waiting import eventually

ITEMS = 100
START_LIMIT_S = 60
END_LIMIT_S = 30
BLOCK_LIMIT_S = 300
RELOAD_LIMIT_S = 10
RELOADS = "tailrace_serving_worker_experiments_reloads_total"
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
    """`emitting` and `silent` are workers that differ in their emitter only: the silent one's takes everything, sends nothing.
    `arms` is one with the experiment in the file `experiments`.
    """

    stack: LocalStack
    emitting: Worker
    silent: Worker
    arms: Worker
    experiments: Path
    sink: psutil.Process

    def change_arms(self, act: str) -> None:
        """Return when the worker has taken it."""
        before = self._reloads()
        write_experiment(self.experiments, act)
        assert eventually(lambda: self._reloads() > before, RELOAD_LIMIT_S), "the worker has looked at its experiments"

    def _reloads(self) -> float:
        text = urllib3.request("GET", f"{self.arms.url}/metrics", timeout=RELOAD_LIMIT_S).data.decode()
        found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{RELOADS}{{")]
        return sum(map(float, found))

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
        others = cores[1:] or cores
        standing.enter_context(_on(others))
        stack = standing.enter_context(local_stack(directory / "stack"))
        catalogue = directory / "catalogue.json"
        catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
        variables = {
            **stack.variables,
            "TAILRACE_CATALOGUE_FILE": str(catalogue),
            "TAILRACE_SERVING_SEED": "2026",
            "TAILRACE_SPOOL_DIR": str(directory / "spool"),
        }
        sink = standing.enter_context(_running(variables, directory / "sink.log", others, "deploy.cli", "sink"))
        emitting = standing.enter_context(_worker(variables, directory, "deploy.cli", cores[:1]))
        silent = standing.enter_context(_worker(variables, directory, "tests.blast_radius.silent_worker", cores[:1]))
        experiments = directory / "experiments.json"
        write_experiment(experiments, "")
        variables |= {
            "TAILRACE_EXPERIMENTS_FILE": str(experiments),
            "TAILRACE_EXPERIMENTS_RELOAD_MS": "50",
            "TAILRACE_RANKERS": f"{POLICY}={HOSTILE}",
            "TAILRACE_POLICY_CPUS": ",".join(map(str, cores[1:])),
        }
        arms = standing.enter_context(_worker(variables, directory / "arms", "deploy.cli", cores[:1]))
        yield Ground(stack, emitting, silent, arms, experiments, psutil.Process(sink.pid))


@contextmanager
def _on(cores: list[int]) -> Iterator[None]:
    """This thread, and what it starts, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _worker(variables: Mapping[str, str], directory: Path, module: str, cores: list[int]) -> Iterator[Worker]:
    directory.mkdir(exist_ok=True)
    log = directory / f"{module}.log"
    with _running(variables, log, cores, module, "serve", "--port", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), log.read_text(encoding="utf-8")
        yield Worker(psutil.Process(process.pid), line.removeprefix("serving on ").strip())


@contextmanager
def _running(variables: Mapping[str, str], log: Path, cores: list[int], *module: str) -> Iterator["subprocess.Popen[str]"]:
    with log.open("w", encoding="utf-8") as errors:
        with _on(cores):  # inherited, by all threads that it will have
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
