"""The sinks under test: `tailrace sink` as processes of their own, each with a port of the proxy for its warehouse."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.proxy import FaultProxy

END_LIMIT_S = 15
DRAIN_LIMIT_S = 300

CLASSIC = "group.protocol=classic,session.timeout.ms=1500,heartbeat.interval.ms=300"
KIP_848 = "group.protocol=consumer"
PROTOCOLS = {"classic": CLASSIC, "kip848": KIP_848}

LARGE_BATCHES = {"TAILRACE_SINK_BATCH_ROWS_MAX": "50000"}

LAUNCH = ("deploy.cli", "sink")
"""What `python -m` runs for a sink."""


@dataclass(frozen=True)
class Sink:
    """One process. Its name is that of its port at the proxy."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


class Fleet:
    """Keeps sinks running, and ends them in every way there is. Safe for the proxy's threads."""

    def __init__(self, variables: Mapping[str, str], proxy: FaultProxy, log: Path, launch: Sequence[str] = LAUNCH) -> None:
        self._variables, self._proxy, self._log, self._launch = dict(variables), proxy, log, launch
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._sinks: dict[str, Sink] = {}

    @property
    def alive(self) -> list[Sink]:
        with self._lock:
            return [sink for sink in self._sinks.values() if sink.alive]

    def ensure(self, wanted: int) -> int:
        """Start what is missing; how many had died by themselves, or been killed, since."""
        missing = wanted - len(self.alive)
        for _ in range(missing):
            self.start()
        return max(0, missing)

    def start(self) -> Sink:
        name = f"sink-{next(self._numbers)}"
        url = urlsplit(self._variables["TAILRACE_WAREHOUSE_URL"])
        port = self._proxy.open(name)
        through = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{port}").geturl()
        environment = {**os.environ, **self._variables, "TAILRACE_WAREHOUSE_URL": through}
        command = [sys.executable, "-m", *self._launch]
        with self._log.open("ab") as log:
            sink = Sink(name, subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        with self._lock:
            self._sinks[name] = sink
        return sink

    def kill(self, name: str) -> None:
        """kill -9."""
        with self._lock:
            sink = self._sinks[name]
        sink.process.kill()
        sink.process.wait(END_LIMIT_S)

    def stop(self, name: str) -> None:
        """SIGSTOP."""
        with self._lock:
            self._sinks[name].process.send_signal(signal.SIGSTOP)

    def wake(self, name: str) -> None:
        with self._lock:
            self._sinks[name].process.send_signal(signal.SIGCONT)

    def ask_to_leave(self, name: str) -> None:
        """SIGTERM."""
        with self._lock:
            self._sinks[name].process.terminate()

    def kill_all(self) -> None:
        for sink in self.alive:
            self.kill(sink.name)

    def drain(self) -> "subprocess.CompletedProcess[str]":
        """One more sink, not through the proxy, until all is in."""
        return subprocess.run(
            [sys.executable, "-m", *self._launch, "--drain", "--json"],
            env={**os.environ, **self._variables, **LARGE_BATCHES},
            capture_output=True,
            text=True,
            timeout=DRAIN_LIMIT_S,
            check=False,
        )
