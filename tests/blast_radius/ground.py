"""Workers under load with everything behind them: a stack, a sink, a reader of scorecards.

The workers have one core, all the rest another, where there are two; the load stands before the rest on its core.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.blast_radius.arms import POLICY, write_experiment
from tests.blast_radius.freezable_disk import FreezableDisk, freezable_disk
from tests.blast_radius.load import Block
from tests.blast_radius.serving_metrics import total
from tests.blast_radius.workers import Load, Restartable, Worker, block, on, worker, write_catalogue
from tests.faults.stack import LocalStack, local_stack
from tests.serving_worker.hostile_rankers import HOSTILE
from tests.waiting import eventually

RELOAD_LIMIT_S = 10
RELOADS = "tailrace_serving_worker_experiments_reloads_total{"
SERVE = ("deploy.cli", "serve", "--port", "0")
SILENT_WORKER = "tests.blast_radius.silent_worker"
SINK = "sink"


@dataclass(frozen=True, slots=True)
class Ground:
    """`emitting` and `silent` are workers that differ in their emitter only: the silent one's takes everything, sends nothing.
    `arms` is one with the experiment in the file `experiments`. `disk` is where the spool of `emitting` is, None where this
    machine gives none that can be made to hang.
    """

    stack: LocalStack
    emitting: Worker
    silent: Worker
    arms: Worker
    experiments: Path
    sink: Restartable
    disk: FreezableDisk | None

    def stopped(self, part: str) -> AbstractContextManager[None]:
        """kill -9: a part of the stack, or the sink, is not there until the block ends."""
        return self.sink.stopped() if part == SINK else self.stack.stopped(part)

    def hanging(self, part: str) -> AbstractContextManager[None]:
        return self.sink.hanging() if part == SINK else self.stack.hanging(part)

    def change_arms(self, act: str) -> None:
        """Return when the worker has taken it."""
        before = self._reloads()
        write_experiment(self.experiments, act)
        assert eventually(lambda: self._reloads() > before, RELOAD_LIMIT_S), "the worker has looked at its experiments"

    def _reloads(self) -> float:
        return total(self.arms, RELOADS)

    def block(self, worker: Worker, load: Load) -> Block:
        return block(worker, load)


@contextmanager
def ground(directory: Path) -> Iterator[Ground]:
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as standing:
        others = cores[1:] or cores
        standing.enter_context(on(others))
        stack = standing.enter_context(local_stack(directory / "stack"))
        variables = {
            **stack.variables,
            "TAILRACE_CATALOGUE_FILE": str(write_catalogue(directory)),
            "TAILRACE_SERVING_SEED": "2026",
            "TAILRACE_DRAIN_MS": "0",
            "TAILRACE_SPOOL_DIR": str(directory / "spool"),
        }
        sink = standing.enter_context(Restartable(variables, directory / "sink.log", others, "deploy.cli", SINK))
        disk = standing.enter_context(freezable_disk(directory))
        spool = variables | ({} if disk is None else {"TAILRACE_SPOOL_DIR": str(disk.path)})
        emitting = standing.enter_context(worker(spool, directory / "emitting.log", cores[:1], *SERVE))
        silent = standing.enter_context(worker(variables, directory / "silent.log", cores[:1], SILENT_WORKER))
        experiments = directory / "experiments.json"
        write_experiment(experiments, "")
        variables |= {
            "TAILRACE_EXPERIMENTS_FILE": str(experiments),
            "TAILRACE_EXPERIMENTS_RELOAD_MS": "50",
            "TAILRACE_RANKERS": f"{POLICY}={HOSTILE}",
            "TAILRACE_POLICY_CPUS": ",".join(map(str, cores[1:])),
        }
        arms = standing.enter_context(worker(variables, directory / "arms.log", cores[:1], *SERVE))
        yield Ground(stack, emitting, silent, arms, experiments, sink, disk)
