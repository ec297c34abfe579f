"""What is done to the parts behind serving while it is under load, each as a block of time."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import psutil

from tests.blast_radius import serving_metrics
from tests.blast_radius.ground import SINK, Ground

STUTTER_ON_S, STUTTER_OFF_S = 0.05, 0.2
"""A slow part runs for the one and stands for the other, in turn."""
METRICS_INTERVAL_S = 0.25
STEP_LIMIT_S = 20
FILE_BYTES_MAX = 0
DISK_HANGING = "spool's disk hanging, kafka dead"


def disturbances() -> Mapping[str, Callable[[Ground], AbstractContextManager[None]]]:
    """By name; each begins before its block of load and ends after it."""
    parts = ("warehouse", "registry", "kafka", SINK)
    found: dict[str, Callable[[Ground], AbstractContextManager[None]]] = {}
    for part in parts:
        found[f"{part} dead"] = _dead(part)
        found[f"{part} hanging"] = _hanging(part)
        found[f"{part} slow"] = _slow(part)
    found["all of analysis dead"] = _analysis_dead
    found["spool's disk full, kafka dead"] = _disk_full
    found[DISK_HANGING] = _disk_hanging
    found["metrics read 4 times a second"] = _metrics_read
    return found


def _dead(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    return lambda ground: ground.stopped(part)


def _hanging(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    return lambda ground: ground.hanging(part)


def _slow(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    def stutter(ground: Ground, ending: threading.Event) -> None:
        with ground.hanging(part):
            ending.wait(STUTTER_OFF_S)
        ending.wait(STUTTER_ON_S)

    return _repeated(stutter)


def _metrics_read(ground: Ground) -> AbstractContextManager[None]:
    def read(ground: Ground, ending: threading.Event) -> None:
        serving_metrics.read(ground.emitting)
        ending.wait(METRICS_INTERVAL_S)

    return _repeated(read)(ground)


def _repeated(step: Callable[[Ground, threading.Event], None]) -> Callable[[Ground], AbstractContextManager[None]]:
    """`step` again and again, on a thread of its own, for as long as the block lasts."""

    @contextmanager
    def repeated(ground: Ground) -> Iterator[None]:
        ending = threading.Event()

        def repeat() -> None:
            while not ending.is_set():
                step(ground, ending)

        with ThreadPoolExecutor(1) as thread:
            repeating = thread.submit(repeat)
            try:
                yield
            finally:
                ending.set()
                repeating.result(STEP_LIMIT_S)

    return repeated


@contextmanager
def _analysis_dead(ground: Ground) -> Iterator[None]:
    with ground.stopped(SINK), ground.stopped("warehouse"):
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
    with ground.stopped("kafka"):
        before = ground.emitting.process.rlimit(psutil.RLIMIT_FSIZE)
        ground.emitting.process.rlimit(psutil.RLIMIT_FSIZE, (FILE_BYTES_MAX, before[1]))
        try:
            yield
        finally:
            ground.emitting.process.rlimit(psutil.RLIMIT_FSIZE, before)


@contextmanager
def _disk_hanging(ground: Ground) -> Iterator[None]:
    assert ground.disk is not None, "asked for only where there is one"
    with ground.stopped("kafka"), ground.disk.hanging():
        yield
