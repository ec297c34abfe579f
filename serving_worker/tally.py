"""Who was answered, degraded and shed, by experiment and arm: the shares are guardrails of every experiment."""

from collections.abc import Iterable

from schemas.events import Assignment, RecommendationServed
from serving_worker.metrics import ArmMetrics

NO_ARM = ("", "")
"""The labels of requests that no arm decided."""


class ArmTally:
    def __init__(self, metrics: ArmMetrics) -> None:
        self._metrics = metrics

    def answered(self, served: RecommendationServed) -> None:
        for arm in _arms(served.assignments):
            self._metrics.exposures.labels(*arm).inc()
            if served.degraded is not None:
                self._metrics.degraded.labels(*arm, served.degraded).inc()

    def shed(self, assignments: Iterable[Assignment]) -> None:
        for arm in _arms(assignments):
            self._metrics.shed.labels(*arm).inc()

    def shadowed(self, policy_id: str, outcome: str) -> None:
        self._metrics.shadow.labels(policy_id, outcome).inc()


def _arms(assignments: Iterable[Assignment]) -> list[tuple[str, str]]:
    decided = [(str(one.experiment_id), str(one.arm)) for one in assignments if one.exposed]
    return decided or [NO_ARM]
