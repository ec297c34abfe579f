"""A clock for one run, and what CPU time every process has taken meanwhile."""

import threading
import time
from collections.abc import Mapping

import psutil

from deploy.local.state import read_run
from deploy.settings import home_of
from tests.benchmarks.figures import Run

OWN = "contender"
PARTS = ("kafka", "warehouse")


class Meter:
    """Starts with the first record in hand, stops when `rows` are in. Threads may share it.

    With `skip` it starts when so many are in, and does not count them: what a start costs is then in no figure.
    """

    def __init__(self, variables: Mapping[str, str], rows: int, skip: int = 0) -> None:
        self.spent_s: Mapping[str, float] = {}
        """The sink's own account of its time."""
        self._wanted, self._skip, self._rows, self._skipped = rows, skip, 0, 0
        self._lock = threading.Lock()
        self._processes = {OWN: psutil.Process(), **_parts(variables)}
        self._started: tuple[float, dict[str, float], float] | None = None
        self._stopped: tuple[float, dict[str, float], float] | None = None

    @property
    def left(self) -> int:
        return self._wanted - self._rows

    @property
    def done(self) -> bool:
        return self._stopped is not None

    def start(self) -> None:
        """The first call counts."""
        with self._lock:
            if self._started is None and not self._skip:
                self._started = self._reading()

    def note(self, rows: int) -> None:
        """So many more are in."""
        with self._lock:
            self._rows += rows
            if self._started is None and self._rows >= self._skip:
                self._started, self._skipped = self._reading(), self._rows
            if self._rows >= self._wanted and self._stopped is None:
                self._stopped = self._reading()

    def run(self) -> Run:
        assert self._started is not None, "no record came"
        assert self._stopped is not None, f"{self.left} rows are missing"
        (began_s, before, busy_before), (ended_s, after, busy_after) = self._started, self._stopped
        cpu_s = {name: after[name] - before[name] for name in after}
        others_s = max(0.0, busy_after - busy_before - sum(cpu_s.values()))
        return Run(self._rows - self._skipped, ended_s - began_s, cpu_s, others_s, self.spent_s)

    def _reading(self) -> tuple[float, dict[str, float], float]:
        return time.perf_counter(), {name: _cpu_s(process) for name, process in self._processes.items()}, _machine_cpu_s()


def _parts(variables: Mapping[str, str]) -> dict[str, psutil.Process]:
    run = read_run(home_of(variables))
    assert run is not None, "the stack runs"
    identities = {part.name: part.process for part in run.parts if part.name in PARTS}
    found = {name: identity.process() for name, identity in identities.items() if identity is not None}
    return {name: process for name, process in found.items() if process is not None}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _machine_cpu_s() -> float:
    """What all cores have done, and what other guests of the host have taken from them."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
