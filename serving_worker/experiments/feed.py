"""Where a worker's experiments come from: a file that somebody keeps, or the topic by way of the host's snapshot."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from producers.experiment_log import ExperimentLog
from schemas.events import Micros
from serving_worker.config import ExperimentSettings
from serving_worker.experiments.definitions import ExperimentFile
from serving_worker.experiments.following import Errand, Hitches, keep_followed
from serving_worker.experiments.snapshot_reader import SnapshotReader

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
"""For the follower to end."""
LATE_S, LATE_LOOKS = 10.0, 3
"""Where no look has ended for so long, and for so many of their intervals, none is expected to end any more."""


class LastLook:
    """When a look at the files last came to its end, well or not. One that waits for a disk that hangs comes to none."""

    def __init__(self, interval_s: float, monotonic_s: Callable[[], float]) -> None:
        self._late_s, self._monotonic_s = max(LATE_S, LATE_LOOKS * interval_s), monotonic_s
        self.ended()

    def ended(self) -> None:
        self._at_s = self._monotonic_s()

    def trouble(self) -> str | None:
        ago_s = self._monotonic_s() - self._at_s
        return None if ago_s < self._late_s else f"no look at them has ended for {ago_s:.0f} s"


def experiments_of(settings: ExperimentSettings) -> ExperimentFile:
    if settings.snapshot is None:
        return ExperimentFile(settings.file, settings.killing())
    return ExperimentFile(settings.snapshot, settings.killing(), SnapshotReader(settings.age_s_max))


def reload(experiments: ExperimentFile) -> bool:
    """Look at the files. Whether they have changed since the last look; what is wrong with them then is said."""
    changed = experiments.reload()
    if changed and experiments.problem:
        logger.error("experiments stay as they were where they are wrong: %s", experiments.problem, exc_info=experiments.fault)
    return changed


def errand_of(
    settings: ExperimentSettings, open_log: Callable[[], ExperimentLog] | None, now_us: Callable[[], Micros]
) -> Errand | None:
    """None where there is no topic to follow, or no log of it: then files are only read."""
    return None if settings.snapshot is None or open_log is None else Errand(settings.snapshot, open_log, now_us)


@contextmanager
def following(errand: Errand | None, hitches: Hitches, stop: Event) -> Iterator[None]:
    """Have the topic followed while this process holds the lock, until `stop`, which is set on the way out at the latest."""
    if errand is None:
        yield
        return
    thread = threading.Thread(target=keep_followed, args=(errand, hitches, stop), name="experiments", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_TIMEOUT_S)
