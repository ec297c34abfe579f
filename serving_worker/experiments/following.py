"""One follower a host, in a process of its own.

Who holds the lock beside the snapshot has the topic followed; the others wait for it, and the system hands it on when its holder
is gone. The rules look at the whole history whenever it changes: within a worker that would hold up requests. So a process of its
own does it, and gives way to those that answer. Its standard input says what to follow, and ends with the worker, however that
ends. It has the lock too, so nobody follows beside it.
"""

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Event
from typing import IO, TypeVar

from producers.experiment_log import ExperimentLog
from producers.file_lock import lock_beside, unshared
from schemas.events import Micros
from serving_worker.experiments.follower import RETRY_S, follow
from serving_worker.isolation.give_way import ALL
from serving_worker.isolation.process import host_environment
from serving_worker.stderr_log import log_to_stderr

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened", bound=IO[bytes])

NICE = 5
"""Beside workers that are busy a stop should still come through at once."""
LOOK_S = 0.2
"""How often it is seen whether the process is still there."""
END_TIMEOUT_S = 8.0
"""For the process to end: a poll, a question to the brokers, and the disk."""
RECENT_S = 60.0
"""What has kept a process from it within this time may do so again, and was said."""
_GIVE_WAY = ("serving_worker.isolation.give_way", str(NICE), ALL, "serving_worker.experiments.following")


@dataclass(frozen=True, slots=True)
class Errand:
    """What to follow, and where to. Goes through pickle, so the functions are those of modules."""

    path: Path
    open_log: Callable[[], ExperimentLog]
    now_us: Callable[[], Micros]


class Hitches:
    """What keeps a process from having the topic followed: `count` is called for each, and it is said once.

    Another process of the host may do better: whether anybody follows, the snapshot's date tells.
    """

    def __init__(self, monotonic_s: Callable[[], float], count: Callable[[], object]) -> None:
        self._monotonic_s, self._count = monotonic_s, count
        self._last: tuple[float, str] = (-inf, "")

    def trouble(self) -> str | None:
        at_s, text = self._last
        return text if self._monotonic_s() - at_s < RECENT_S else None

    def note(self, error: Exception) -> None:
        self._count()
        text = f"this process cannot have the experiments followed: {str(error) or repr(error)}"
        if text != self.trouble():
            logger.error("%s; it is tried again", text, exc_info=error)
        self._last = self._monotonic_s(), text


def keep_followed(errand: Errand, hitches: Hitches, stop: Event) -> None:
    """Until `stop`: wait for the lock, then have the topic followed. A process that ends is started again."""
    while not stop.is_set():
        try:
            with _lock(errand.path) as lock:
                if lock is not None:
                    _have_followed(errand, lock, stop)
        except Exception as error:  # noqa: BLE001 - counted, told and tried again
            hitches.note(error)
        stop.wait(RETRY_S)


def _have_followed(errand: Errand, lock: int, stop: Event) -> None:
    """Raises OSError where the process ends badly."""
    with unshared() as note:  # a follower whose input somebody else has open does not see its worker end
        process = _start(lock)
        assert process.stdin is not None
        note(process.stdin)
    with process:
        try:
            with _closing(process.stdin):
                process.stdin.write(pickle.dumps(errand))
                while process.poll() is None and not stop.wait(LOOK_S):
                    pass
            if process.wait(END_TIMEOUT_S) != 0:
                raise ChildProcessError(f"the follower of the experiments has ended with {process.returncode}")
        finally:
            process.kill()


def _start(lock: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own module
        (sys.executable, "-P", "-m", *_GIVE_WAY),
        env=host_environment(os.environ),
        pass_fds=(lock,),
        stdin=subprocess.PIPE,
        bufsize=0,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    """The process that follows."""
    log_to_stderr()
    errand: Errand = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the worker that started this
    stop = Event()
    threading.Thread(target=_await_end_of_worker, args=(stop,), daemon=True).start()
    follow(errand.path, errand.open_log, errand.now_us, stop)


def _await_end_of_worker(stop: Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


@contextmanager
def _lock(path: Path) -> Iterator[int | None]:
    """The lock beside `path`, if nobody else has it. The system takes it from processes that have ended."""
    with _closing(lock_beside(path)) as file:
        yield file.fileno() if file.try_lock() else None


@contextmanager
def _closing(file: Opened) -> Iterator[Opened]:
    try:
        yield file
    finally:
        with unshared():
            file.close()


if __name__ == "__main__":
    main()
