"""uvicorn's supervisor of processes, and what a fleet of workers needs beside: see the methods.

It leans on the insides of uvicorn's, hence the lower bound in pyproject.toml; test_fleet.py and test_fleet_endings.py pin it.
"""

import logging
import os
import signal
import socket
import time

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

logger = logging.getLogger(__name__)

RESPAWN_S = 5.0
"""A process that cannot come up has its successor so much later: at once that one would do no better."""
JOIN_S = 0.2
"""How often it is seen, while the fleet ends, whether there are signals to pass on."""
_PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT})


class Supervisor(Multiprocess):
    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config, [listener])
        self.failed = False
        """Whether it has ended because no process came up."""
        self._due_s: list[float] = []
        """When those that are missing are to be started, in the monotonic clock's time."""

    def keep_subprocess_alive(self) -> None:
        """A process that fails on its start ends the fleet only if no other is up: what is wrong is then wrong for all."""
        if self.should_exit.is_set():
            return
        try:
            self._start_those_due()
            super().keep_subprocess_alive()
        except OSError:  # no room for a process
            logger.exception("a process cannot be started; it is tried again")
        if self.should_exit.is_set():
            self._go_on_without_failed()

    def terminate_all(self) -> None:
        """The processes have copies of the listener. With ours open, the kernel would take connections that nobody answers."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def join_all(self) -> None:
        """Signals that come meanwhile are for the processes: a later one ends their wait."""
        while up := [process for process in self.processes if process.exitcode is None]:
            for number in self._signals_to_pass_on():
                for process in up:
                    assert process.pid is not None, "it was started"
                    os.kill(process.pid, number)
            up[0].process.join(JOIN_S)

    def _go_on_without_failed(self) -> None:
        others = [process for process in self.processes if process.exitcode != STARTUP_FAILURE]
        if not any(process.is_ready() for process in others):
            self.failed = True
            return
        logger.error("a process cannot come up; another is started in %g s", RESPAWN_S)
        self._due_s += [time.monotonic() + RESPAWN_S] * (len(self.processes) - len(others))
        self.processes = others
        self.should_exit.clear()

    def _start_those_due(self) -> None:
        while self._due_s and self._due_s[0] <= time.monotonic():
            process = Process(self.config, self.sockets)
            process.start()
            self.processes.append(process)
            del self._due_s[0]

    def _signals_to_pass_on(self) -> list[int]:
        come, self.signal_queue = self.signal_queue, []
        return [number for number in come if number in _PASSED_ON]
