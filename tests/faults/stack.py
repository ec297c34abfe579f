"""A local stack of the harness's own, whose parts can be killed, stopped and started again.

Sessions of the broker's groups are short, as the faults cost a session each.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from secrets import token_urlsafe

import psutil

from deploy.installing import bring_up
from deploy.local.kafka import new_cluster_id
from deploy.local.parts import stack_parts
from deploy.local.ports import is_free
from deploy.local.stack import await_ready, stop_stack
from deploy.local.state import ProcessIdentity, StackPlan, read_plan, read_run, write_plan
from deploy.settings import StackSettings
from tests.waiting import eventually

END_LIMIT_S = 30
LASTING_PORTS = (20_000, 32_000)
"""Below those that Linux gives to outgoing connections."""
SHORT_SESSIONS = """
group.consumer.session.timeout.ms=1500
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=300
"""


@dataclass(frozen=True)
class LocalStack:
    """`variables` name it for every command."""

    home: Path
    variables: Mapping[str, str]

    def kill(self, part: str) -> None:
        """kill -9. Its supervisor starts it again at once, however often it has died."""
        self._end(part)
        self._supervisor().send_signal(signal.SIGHUP)

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """kill -9, and nobody starts it again until the block ends."""
        supervisor = self._supervisor()
        supervisor.suspend()
        try:
            self._end(part)
            yield
        finally:
            supervisor.resume()
        self._supervisor().send_signal(signal.SIGHUP)
        self.await_ready(part)

    @contextmanager
    def hanging(self, part: str) -> Iterator[None]:
        """SIGSTOP until the block ends: connections stay, nothing answers."""
        process = self._process(part)
        assert process is not None, f"{part} runs"
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def await_ready(self, part: str) -> None:
        """Until the part runs as another process than a dead one, and answers."""
        settings = StackSettings.from_environment(self.variables)
        plan = read_plan(self.home)
        assert plan is not None, "the stack was started"
        [found] = stack_parts(settings.home, settings.cache, plan, [part])
        await_ready(self.home, found)

    def _end(self, part: str) -> None:
        identity = self._identity(part)
        process = None if identity is None else identity.process()
        if identity is not None and process is not None:
            process.kill()
            assert eventually(lambda: identity.process() is None, END_LIMIT_S), f"{part} has ended"

    def _process(self, part: str) -> psutil.Process | None:
        identity = self._identity(part)
        return None if identity is None else identity.process()

    def _identity(self, part: str) -> ProcessIdentity | None:
        run = read_run(self.home)
        assert run is not None, "the stack runs"
        return next(found for found in run.parts if found.name == part).process

    def _supervisor(self) -> psutil.Process:
        run = read_run(self.home)
        process = None if run is None else run.supervisor.process()
        assert process is not None, "the stack runs"
        return process


def _lasting_ports() -> Iterator[int]:
    """Free ports that no client gets for an outgoing connection: a part that is dead for a while finds its own free again."""
    first, end = LASTING_PORTS
    begin = first + os.getpid() * 4 % (end - first)
    return (port for port in (*range(begin, end), *range(first, begin)) if is_free(port))


@contextmanager
def local_stack(home: Path) -> Iterator[LocalStack]:
    """A stack in `home`, with its programs from the usual cache. Raises PartUnreachable."""
    shared = {name: os.environ[name] for name in ("TAILRACE_CACHE", "XDG_CACHE_HOME") if name in os.environ}
    home.mkdir(mode=0o700)
    kafka, controller, registry, warehouse = islice(_lasting_ports(), 4)
    write_plan(home, StackPlan(kafka, controller, registry, warehouse, new_cluster_id(), *(token_urlsafe() for _ in range(2))))
    try:
        installed = bring_up({**shared, "TAILRACE_HOME": str(home)}, lambda _line: None)
        stack = LocalStack(home, installed.variables)
        with (home / "kafka" / "server.properties").open("a", encoding="utf-8") as settings:
            settings.write(SHORT_SESSIONS)
        stack.kill("kafka")
        stack.await_ready("kafka")
        yield stack
    finally:
        stop_stack(home)
