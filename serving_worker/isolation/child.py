"""A subprocess: started at the cost of a pause of under a millisecond, seen out without a thread, killed with all it has started.

uvloop's own way to start one copies the worker's page tables, and stops its loop for that: 75 ms for a worker of 1 GB. Popen uses
vfork, which copies nothing. A descriptor of the process (Linux) tells the loop when it has ended.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


class Child:
    """`ended` is done when the process has ended and has been reaped."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], inherited: socket.socket) -> None:
        """It inherits one socket and no other descriptor, and leads a session of its own. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._process = subprocess.Popen(  # noqa: S603 - our own module; what it loads is the operator's setting
            arguments,
            env=environment,
            pass_fds=(inherited.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._descriptor = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._descriptor, self._reap)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Its whole process group. Nothing once it has been reaped: its id may be another's then."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """What it has started goes first, while its id is still its own."""
        self.kill()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._process.wait(timeout=0)
        self.ended.set_result(None)
