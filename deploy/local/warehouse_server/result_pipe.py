"""The pipe through which the engine hands over a result while it still computes it.

The engine writes its result, in whatever format, `INTO OUTFILE` of a named pipe; the event loop reads it as fast as the client
takes it. The pipe's own size is all that is ever held: a slow client slows the query down, in constant memory.
"""

import asyncio
import fcntl
import os
from pathlib import Path

PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 18


class ResultPipe:
    """Open for reading from its making on, so that the engine never waits to open it; `finish` lets the reader see the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        try:
            self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            self._keeper: int | None = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            path.unlink()
            raise
        _widen(self._reader)

    def finish(self) -> None:
        """The engine has written all that it will: after what is in the pipe comes its end."""
        if self._keeper is not None:
            os.close(self._keeper)
            self._keeper = None

    async def read(self) -> bytes:
        """The next bytes, or none at the end."""
        while True:
            try:
                return os.read(self._reader, READ_BYTES)
            except BlockingIOError:
                await self._readable()

    async def read_up_to(self, size: int) -> tuple[bytes, bool]:
        """The first bytes, at least `size` of them unless the result ends before; and whether it has ended."""
        parts: list[bytes] = []
        held = 0
        while held < size:
            part = await self.read()
            if not part:
                return b"".join(parts), True
            parts.append(part)
            held += len(part)
        return b"".join(parts), False

    async def drain(self) -> None:
        """Throw away all that comes until the end, so that an engine that is told to stop can stop."""
        while await self.read():
            pass

    def close(self) -> None:
        self.finish()
        os.close(self._reader)
        self.path.unlink(missing_ok=True)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._reader, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._reader)


def _widen(pipe: int) -> None:
    """A pipe of 1 MiB where the system lets it be set (Linux); its default elsewhere."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
