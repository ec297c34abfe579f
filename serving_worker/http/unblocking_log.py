"""Logging that never waits: records go through a bounded queue to a thread of their own, which writes them.

A terminal, a pipe or a disk that stalls would otherwise stall the event loop, and with it every request.
"""

import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener

RECORDS_MAX = 10_000
STOP_LIMIT_S = 1.0


class LossyQueueHandler(QueueHandler):
    """Drops a record that finds the queue full, and says how many when there is room again."""

    def __init__(self, records_max: int) -> None:
        self.waiting: queue.Queue[logging.LogRecord] = queue.Queue(records_max)
        super().__init__(self.waiting)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.waiting.put_nowait(record)
        except queue.Full:
            self.dropped += 1
            return
        if self.dropped:
            self._tell()

    def _tell(self) -> None:
        dropped, self.dropped = self.dropped, 0
        text = f"{dropped} log lines were dropped: whoever reads the log is too slow"
        self.enqueue(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None))


class _Listener(QueueListener):
    """Ends with the process, whatever its target does: a target that hangs must not hold the shutdown up."""

    def stop(self) -> None:
        thread = self._thread
        if thread is None:
            return
        try:
            self.enqueue_sentinel()
        except queue.Full:
            return
        thread.join(STOP_LIMIT_S)
        self._thread = None


@contextmanager
def unblocking_log(records_max: int = RECORDS_MAX) -> Iterator[None]:
    """Within it the root logger's handlers are fed by a thread."""
    root = logging.getLogger()
    targets, handler = list(root.handlers), LossyQueueHandler(records_max)
    listener = _Listener(handler.waiting, *targets, respect_handler_level=True)
    for target in targets:
        root.removeHandler(target)
    root.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        for target in targets:
            root.addHandler(target)
        listener.stop()
