"""Looking at the experiments' files for as long as a worker is up, and telling of it.

A worker that no longer looks would go on serving what was stopped or killed. So whatever a look runs into, the next one comes;
and if none does any more, the worker is not ready.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from serving_worker.experiments.definitions import ExperimentFile
from serving_worker.experiments.feed import LastLook, reload
from serving_worker.metrics import WorkerMetrics

logger = logging.getLogger(__name__)

TASK = "experiments"


class Watch:
    """Looks once when it is made, and every `interval_s` while it is `kept_up`."""

    def __init__(
        self, experiments: ExperimentFile, metrics: WorkerMetrics, interval_s: float, monotonic_s: Callable[[], float]
    ) -> None:
        self._experiments, self._metrics, self._interval_s = experiments, metrics, interval_s
        self._last_look = LastLook(interval_s, monotonic_s)
        self._task: asyncio.Task[None] | None = None
        self._look()

    def trouble(self) -> str | None:
        """Why the worker should get no requests; None where it can."""
        if self._task is not None and self._task.done():
            return "nobody looks at them any more"
        unread = None if self._experiments.snapshot() is not None else self._experiments.problem or "not read so far"
        return self._last_look.trouble() or unread

    @asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        self._last_look.ended()
        task = self._task = asyncio.create_task(self._keep_up(), name=TASK)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await asyncio.to_thread(self._look)
            except Exception:
                self._metrics.experiments.reloads.labels("failed").inc()
                logger.exception("looking at the experiments failed; they stay as they were until the next look")
            self._last_look.ended()

    def _look(self) -> None:
        experiments, metrics = self._experiments, self._metrics
        if reload(experiments):
            metrics.experiments.reloads.labels("bad" if experiments.problem else "good").inc()
        metrics.experiments.good.set(experiments.problem is None)
        metrics.experiments.killed.set(len(experiments.killed or ()))
        snapshot = experiments.snapshot()
        if snapshot is not None and snapshot.validity is not None:
            metrics.experiments.as_of.set(snapshot.validity.as_of / 1_000_000)
