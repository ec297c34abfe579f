"""A lock for what must not be half done in a forked process.

A fork waits for it, but not for ever: whoever holds it may be waiting for a disk that hangs, and a fork is somebody's live
traffic. A process that was forked without it may have inherited half of what the lock is for, and goes on with a new lock.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FORK_WAIT_S = 1.0


class ForkLock:
    """For modules: what looks after forks stays for as long as the process is up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forking: int | None = None
        """The thread that holds it over a fork. Written by that thread alone."""
        os.register_at_fork(before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child)

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            yield

    def _before(self) -> None:
        if self._lock.acquire(timeout=FORK_WAIT_S):
            self._forking = threading.get_ident()

    def _after_in_parent(self) -> None:
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def _after_in_child(self) -> None:
        self._lock, self._forking = threading.Lock(), None
