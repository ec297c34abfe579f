"""Looking at the experiments goes on whatever it runs into, and where it does not the worker is not ready."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from serving_worker.experiments.definitions import ExperimentFile
from serving_worker.experiments.feed import LATE_S
from serving_worker.experiments.watch import TASK, Watch
from serving_worker.metrics import WorkerMetrics
from tests.waiting import eventually

LIMIT_S = 30


class Failing(ExperimentFile):
    """Fails while it is told to; counts the looks."""

    fails, looks = False, 0

    def reload(self) -> bool:
        self.looks += 1
        if self.fails:
            raise RuntimeError("nobody foresaw this")
        return super().reload()


class Hanging(ExperimentFile):
    """A look does not end while it is told to hang."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.going_on, self.hangs, self.looks = threading.Event(), threading.Event(), 0
        self.going_on.set()

    def reload(self) -> bool:
        if not self.going_on.is_set():
            self.hangs.set()
            self.going_on.wait()
        self.looks += 1
        return super().reload()


async def until(holds: Callable[[], bool]) -> None:
    assert await asyncio.to_thread(eventually, holds, LIMIT_S)


def reloads(metrics: WorkerMetrics, result: str) -> float:
    return metrics.registry.get_sample_value("tailrace_serving_worker_experiments_reloads_total", {"result": result}) or 0


def test_a_look_that_fails_is_counted_and_said_and_the_next_one_comes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "experiments.json"
    path.write_text("[]", encoding="utf-8")
    experiments, metrics = Failing(path), WorkerMetrics(CollectorRegistry())
    watch = Watch(experiments, metrics, 0.001, time.monotonic)

    async def keep_up() -> None:
        async with watch.kept_up():
            experiments.fails = True
            await until(lambda: reloads(metrics, "failed") > 2)
            experiments.fails = False
            looks = experiments.looks
            await until(lambda: experiments.looks > looks + 2)
            assert watch.trouble() is None

    with caplog.at_level(logging.ERROR):
        asyncio.run(keep_up())
    assert "looking at the experiments failed" in caplog.text


def test_a_worker_whose_watch_has_ended_is_not_ready(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text("[]", encoding="utf-8")
    watch = Watch(ExperimentFile(path), WorkerMetrics(CollectorRegistry()), 0.001, time.monotonic)

    async def end_it() -> None:
        async with watch.kept_up():
            assert watch.trouble() is None
            next(task for task in asyncio.all_tasks() if task.get_name() == TASK).cancel()
            await until(lambda: watch.trouble() is not None)
            assert watch.trouble() == "nobody looks at them any more"

    asyncio.run(end_it())


def test_a_worker_whose_look_hangs_is_not_ready_until_it_has_come_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text("[]", encoding="utf-8")
    experiments, now_s = Hanging(path), 0.0
    watch = Watch(experiments, WorkerMetrics(CollectorRegistry()), 0.001, lambda: now_s)

    async def hang() -> None:
        nonlocal now_s
        async with watch.kept_up():
            await until(lambda: experiments.looks > 2)
            experiments.going_on.clear()
            try:
                await until(experiments.hangs.is_set)
                assert watch.trouble() is None
                now_s = LATE_S
                assert watch.trouble() == "no look at them has ended for 10 s"
            finally:
                experiments.going_on.set()
            await until(lambda: watch.trouble() is None)

    asyncio.run(hang())
