"""Locks between processes, by files. They end with their holder, however it ends: a forked process closes its copies at once.

A fork between the opening of such a file and its being noted would keep a copy that nobody knows of, so it waits for that; but
not for ever, for a disk may hang. What a disk hangs on is not open, so there is nothing to be copied.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO
from weakref import WeakSet

FORK_WAIT_S_MAX = 1.0


class _Unshared:
    """Files that forked processes close. `lock` is held while one of them is opened, and over a fork."""

    def __init__(self) -> None:
        self.files: WeakSet[IO[bytes]] = WeakSet()
        self.lock = threading.Lock()
        self._forking: int | None = None
        """The thread that forks and has the lock: another one may fork meanwhile that has waited for it in vain."""

    def before_fork(self) -> None:
        if self.lock.acquire(timeout=FORK_WAIT_S_MAX):
            self._forking = threading.get_ident()

    def after_in_parent(self) -> None:
        if self._forking == threading.get_ident():
            self._forking = None
            self.lock.release()

    def after_in_child(self) -> None:
        self.lock, self._forking = threading.Lock(), None
        for file in list(self.files):
            file.close()


_UNSHARED = _Unshared()
os.register_at_fork(
    before=_UNSHARED.before_fork, after_in_parent=_UNSHARED.after_in_parent, after_in_child=_UNSHARED.after_in_child
)


@contextmanager
def unshared() -> Iterator[Callable[[IO[bytes]], None]]:
    """To open a file in, and to name it to what is given: no forked process will have a copy."""
    with _UNSHARED.lock:
        yield _UNSHARED.files.add


class LockFile(FileIO):
    """The file at `path`, not locked so far; made where it is missing. Forked processes have no copy of it, and nothing that
    refers to it any more means that it is let go of. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        with unshared() as note:
            super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            note(self)

    def __del__(self) -> None:
        self.close()

    def try_lock(self) -> bool:
        """Whether it is ours now. See `try_lock`."""
        return try_lock(self.fileno())

    def let_go(self) -> None:
        """Unlock and close it. Closing alone is not enough: a process that is forked in the middle of it keeps a copy."""
        with self:
            fcntl.flock(self, fcntl.LOCK_UN)


def open_lock_beside(path: Path) -> int:
    """The file that is locked for whoever writes `path`, not locked so far; it is made where it is missing. Raises OSError."""
    return os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def try_lock(descriptor: int) -> bool:
    """Take the lock that the open file stands for, without waiting. False where another one holds it.

    It is held until every copy of the descriptor is closed, those of forked processes too. Who opens the file anew is another
    one, in the same process as well. Raises OSError where the file cannot be locked at all.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
