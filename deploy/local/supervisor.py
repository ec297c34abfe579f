"""The process that runs the parts: `python -m deploy.local.supervisor HOME CACHE PART...`, detached from whoever started it.

It starts the parts side by side, starts one that died again (with a growing delay, and not without end), keeps their logs
within LOG_BYTES_MAX, writes `run.json`, and ends the parts when it gets SIGTERM. On SIGHUP it tries what it had given up.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local.locking import held
from deploy.local.part import Part
from deploy.local.parts import stack_parts
from deploy.local.state import PartRun, ProcessIdentity, StackRun, forget_run, read_plan, write_run

WATCH_INTERVAL_S = 0.2
RESTARTS_MAX = 6
"""Deaths in a row after which a part is left alone."""
SETTLED_AFTER_S = 60
"""A part that lived this long starts its count of deaths anew."""
RESTART_DELAY_S = 0.2
RESTART_DELAY_MAX_S = 10.0
END_TIMEOUT_S = 20
LOG_BYTES_MAX = 8 << 20
"""A longer log becomes `<part>.log.1`, which replaces the one before it."""
TAKEOVER_TIMEOUT_S = 5


class SupervisedPart:
    """One part, and what has become of it."""

    def __init__(self, part: Part, log: Path) -> None:
        self._part = part
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: ProcessIdentity | None = None
        self._deaths = 0
        self._restarts = 0
        self._started_at = 0.0
        self._start_at = 0.0

    @property
    def run(self) -> PartRun:
        return PartRun(self._part.name, self._identity, self._restarts, gave_up=self._gave_up)

    def watch(self, now: float) -> None:
        """Note a death, start what is due, keep the log short. `now` is monotonic seconds."""
        if self._process is not None and self._process.poll() is not None:
            self._note_death(now, self._process.returncode)
        if self._process is None and not self._gave_up and now >= self._start_at:
            self._start(now)
        bound_log(self._log)

    def retry(self) -> None:
        self._deaths, self._start_at = 0, 0.0

    def end(self) -> None:
        """Ask it to end; `wait` insists."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_TIMEOUT_S)

    @property
    def _gave_up(self) -> bool:
        return self._deaths > RESTARTS_MAX

    def _start(self, now: float) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._part.command,
                cwd=self._part.directory,
                env={**os.environ, **self._part.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._identity = ProcessIdentity.of(self._process.pid)
        self._started_at = now

    def _note_death(self, now: float, code: int) -> None:
        if now - self._started_at > SETTLED_AFTER_S:
            self._deaths = 0
        self._deaths += 1
        self._restarts += 1
        self._process = self._identity = None
        self._start_at = now + min(RESTART_DELAY_MAX_S, RESTART_DELAY_S * 2 ** (self._deaths - 1))
        print(f"{self._part.name} ended with {code}, {self._deaths} times in a row", flush=True)


class Supervisor:
    """Runs until it is told to end."""

    def __init__(self, home: Path, parts: Sequence[Part]) -> None:
        (home / "logs").mkdir(exist_ok=True)
        self._home = home
        self._parts = [SupervisedPart(part, part.log(home)) for part in parts]
        self._ending = threading.Event()
        self._retry = False
        self._written: StackRun | None = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._ending.set())
        signal.signal(signal.SIGINT, lambda *_: self._ending.set())
        signal.signal(signal.SIGHUP, self._on_hangup)
        try:
            while not self._ending.is_set():
                self._watch()
                self._ending.wait(WATCH_INTERVAL_S)
        finally:
            self._end()

    def _on_hangup(self, *_: object) -> None:
        self._retry = True

    def _watch(self) -> None:
        if self._retry:
            self._retry = False
            for part in self._parts:
                part.retry()
        now = time.monotonic()
        for part in self._parts:
            part.watch(now)
        self._write()

    def _write(self) -> None:
        own = ProcessIdentity.of(os.getpid())
        assert own is not None, "this process runs"
        run = StackRun(own, tuple(part.run for part in self._parts))
        if run != self._written:
            write_run(self._home, run)
            self._written = run

    def _end(self) -> None:
        for part in self._parts:
            part.end()
        deadline = time.monotonic() + END_TIMEOUT_S
        for part in self._parts:
            part.wait(deadline)
        forget_run(self._home)


def bound_log(log: Path) -> None:
    """Move a log that is too long aside. Its writer appends, so it goes on at the start of the emptied file."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def main(arguments: Sequence[str]) -> None:
    home, cache, *names = arguments
    plan = read_plan(Path(home))
    assert plan is not None, "whoever starts a supervisor has written the plan"
    with held(Path(home) / "supervisor.lock", TAKEOVER_TIMEOUT_S):
        Supervisor(Path(home), stack_parts(Path(home), Path(cache), plan, names)).run()


if __name__ == "__main__":
    os.setsid()
    main(sys.argv[1:])
