"""What is done to the parts behind serving while it is under load, each as a block of time."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

import psutil

from tests.blast_radius.ground import Ground

STUTTER_ON_S, STUTTER_OFF_S = 0.05, 0.2
"""A slow part runs for the one and stands for the other, in turn."""
STUTTER_END_LIMIT_S = 10
FILE_BYTES_MAX = 0


def disturbances() -> Mapping[str, Callable[[Ground], AbstractContextManager[None]]]:
    """By name; each begins before its block of load and ends after it."""
    parts = ("warehouse", "registry", "kafka")
    found: dict[str, Callable[[Ground], AbstractContextManager[None]]] = {}
    for part in parts:
        found[f"{part} dead"] = _dead(part)
        found[f"{part} hanging"] = _hanging(part)
        found[f"{part} slow"] = _slow(part)
    found["sink hanging"] = _sink_hanging
    found["all of analysis dead"] = _analysis_dead
    found["spool's disk full, kafka dead"] = _disk_full
    return found


def _dead(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    return lambda ground: ground.stack.stopped(part)


def _hanging(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    return lambda ground: ground.stack.hanging(part)


def _slow(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    @contextmanager
    def slow(ground: Ground) -> Iterator[None]:
        ending = threading.Event()

        def stutter() -> None:
            while not ending.is_set():
                with ground.stack.hanging(part):
                    ending.wait(STUTTER_OFF_S)
                ending.wait(STUTTER_ON_S)

        thread = threading.Thread(target=stutter)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join(STUTTER_END_LIMIT_S)

    return slow


@contextmanager
def _sink_hanging(ground: Ground) -> Iterator[None]:
    ground.sink.suspend()
    try:
        yield
    finally:
        ground.sink.resume()


@contextmanager
def _analysis_dead(ground: Ground) -> Iterator[None]:
    with ExitStack() as dead:
        dead.enter_context(_sink_hanging(ground))
        dead.enter_context(ground.stack.stopped("warehouse"))
        yield


def misbehaving(act: str) -> Callable[[Ground], AbstractContextManager[None]]:
    """The second arm's policy does `act` instead of its work, from the first request of the block on."""

    @contextmanager
    def misbehave(ground: Ground) -> Iterator[None]:
        ground.change_arms(act)
        try:
            yield
        finally:
            ground.change_arms("")

    return misbehave


@contextmanager
def _disk_full(ground: Ground) -> Iterator[None]:
    """No file of the worker's may grow, so everything that it would spool fails, as on a disk without room."""
    with ground.stack.stopped("kafka"):
        before = ground.emitting.process.rlimit(psutil.RLIMIT_FSIZE)
        ground.emitting.process.rlimit(psutil.RLIMIT_FSIZE, (FILE_BYTES_MAX, before[1]))
        try:
            yield
        finally:
            ground.emitting.process.rlimit(psutil.RLIMIT_FSIZE, before)
