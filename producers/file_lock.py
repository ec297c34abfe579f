"""Locks between processes, by files. They end with their holder, however it ends."""

import fcntl
import os
from pathlib import Path


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
