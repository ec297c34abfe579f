"""A topic of experiments with one experiment, which is stopped when a file says so: for whichever process reads it."""

from pathlib import Path

from producers.experiment_log import Refused
from schemas.events import ExperimentDefinition
from tests.schemas.experiment_samples import DEFINITION
from tests.serving_worker.test_experiments_follower import STOPPED


class StoppableLog:
    def __init__(self, stopped: Path) -> None:
        self._stopped, self._waiting = stopped, [DEFINITION]

    def poll(self, timeout_s: float) -> tuple[ExperimentDefinition | Refused, ...]:
        assert timeout_s > 0
        stops = [STOPPED] if self._stopped.exists() else []
        found, self._waiting = (*self._waiting, *stops), []
        return found

    def caught_up(self, timeout_s: float) -> bool:
        return timeout_s > 0

    def close(self) -> None:
        """It holds nothing."""
