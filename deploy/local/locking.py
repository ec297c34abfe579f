"""One at a time: locks between processes that end with their holder, however it ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from producers.file_lock import try_lock
from schemas.errors import PartUnreachable

_POLL_S = 0.05


@contextmanager
def held(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock that the file at `path` stands for. Raises PartUnreachable where another process does not let go of it."""
    deadline = time.monotonic() + timeout_s
    with path.open("w") as file:
        while not try_lock(file.fileno()):
            if time.monotonic() >= deadline:
                remedy = f"another tailrace has been at work there for more than {timeout_s:.0f} s; wait for it, or end it"
                raise PartUnreachable("a lock", str(path), remedy)
            time.sleep(_POLL_S)
        yield
