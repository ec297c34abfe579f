"""The engine's threads: so many queries at once, so many waiting, and past that ClickHouse's error 202."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deploy.local.warehouse_server.config import Limits
from deploy.local.warehouse_server.engine import Connection
from deploy.local.warehouse_server.errors import TOO_MANY_SIMULTANEOUS_QUERIES, refusal
from deploy.local.warehouse_server.metrics import ServerMetrics

Result = TypeVar("Result")


class Workers:
    """Used from the event loop alone."""

    def __init__(self, limits: Limits, metrics: ServerMetrics) -> None:
        self._admitted_max = limits.running_queries + limits.waiting_queries
        self._running_max = limits.running_queries
        self._admitted = 0
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(limits.running_queries, thread_name_prefix="engine")

    def start(self, job: Callable[[], Result]) -> asyncio.Future[Result]:
        """Run `job` as soon as a thread is free. Raises ServerError 202 where too many wait already."""
        if self._admitted >= self._admitted_max:
            self._metrics.rejected.labels("too_many_queries").inc()
            raise refusal(
                TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries: {self._running_max} run and {self._admitted_max - self._running_max} wait, "
                "which is this server's limit.",
            )
        self._count(1)
        future = asyncio.get_running_loop().run_in_executor(self._threads, job)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    def _count(self, change: int) -> None:
        self._admitted += change
        self._metrics.running.set(min(self._admitted, self._running_max))
        self._metrics.waiting.set(max(0, self._admitted - self._running_max))

    def close_away(self, connection: Connection) -> None:
        """Close a connection in a thread."""
        self._threads.submit(connection.close)

    def close(self) -> None:
        """Wait for the queries that run; those that wait are not begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)
