"""Locks between processes, by files. They end with their holder, however it ends: a forked process closes its copies at once.

A fork between the opening of such a file and its being noted would keep a copy that nobody knows of, so it waits for that; but
not for ever, for a disk may hang. What a disk hangs on is not open, so there is nothing to be copied.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO
from weakref import WeakSet

from producers.fork_lock import ForkLock

_BETWEEN_FORKS = ForkLock()
_UNSHARED: WeakSet[IO[bytes]] = WeakSet()


@contextmanager
def unshared() -> Iterator[Callable[[IO[bytes]], None]]:
    """To open a file in, and to name it to what is given: no forked process will have a copy. And to close it in: a file forgets
    its number before the system closes it.
    """
    with _BETWEEN_FORKS.held():
        yield _UNSHARED.add


def _leave_to_parent() -> None:
    for file in list(_UNSHARED):
        file.close()


os.register_at_fork(after_in_child=_leave_to_parent)


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


def lock_beside(path: Path) -> LockFile:
    """What is locked for whoever writes `path`. Raises OSError."""
    return LockFile(path.with_name(f"{path.name}.lock"))


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
