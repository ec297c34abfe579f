"""Where the log of a process goes that answers, or follows for those that do: to stderr, and nobody ever waits for it.

Lines go through a bounded queue to a thread of their own. A terminal, a pipe or a disk that stalls would otherwise stall the
event loop and every request, the supervision of a fleet, and the end of each of its processes.
"""

import logging
import os
import queue
import threading
from contextlib import suppress

LINES_MAX = 10_000
FLUSH_LIMIT_S = 1.0
"""For what waits to be written, where the process ends."""
_STDERR = 2
"""Not sys.stderr: an interpreter that ends waits for the lock of a file that a thread is writing to."""


def log_to_stderr() -> None:
    """For each process: a new one begins with nothing."""
    if not logging.getLogger().handlers:
        handlers = [LossyHandler(_STDERR)]
        logging.basicConfig(handlers=handlers, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every look-up of a schema


def flush_log() -> None:
    """For a process that a signal may end from here on."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class LossyHandler(logging.Handler):
    """Drops a line that finds the queue full, and says how many were lost when there is room again."""

    def __init__(self, descriptor: int, lines_max: int = LINES_MAX) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: queue.Queue[bytes | threading.Event] = queue.Queue(lines_max)
        self._lost = 0
        """Guarded by the handler's own lock, which is held for no I/O."""
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        line = _encoded(self._text_of(record))
        try:
            if self._lost:
                self._waiting.put_nowait(_encoded(f"{self._lost} log lines were lost: whoever reads the log is too slow"))
                self._lost = 0
            self._waiting.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """Until what is there has been written, or FLUSH_LIMIT_S are over: a reader that hangs holds up no end."""
        reached = threading.Event()
        with suppress(queue.Full):
            self._waiting.put(reached, timeout=FLUSH_LIMIT_S)
            reached.wait(FLUSH_LIMIT_S)

    def _text_of(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001 - nobody fails by what he logs; logging itself would print it, and wait
            return f"{record.name} has a line that cannot be made, {record.msg!r}: {error!r}"

    def _write_all(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
            elif not _is_written(self._descriptor, item):
                self._lose()

    def _lose(self) -> None:
        self.acquire()
        self._lost += 1
        self.release()


def _encoded(text: str) -> bytes:
    return f"{text}\n".encode(errors="backslashreplace")


def _is_written(descriptor: int, line: bytes) -> bool:
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:  # nobody reads it any more, or the disk is full
        return False
    return True
