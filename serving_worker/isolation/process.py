"""One subprocess that runs one policy: started, asked, killed. It answers one question at a time."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving_worker.isolation.child import Child
from serving_worker.isolation.frames import Answer, Question, Ready, Refusal, Reply, frame
from serving_worker.isolation.give_way import ALL
from serving_worker.isolation.limits import NICE, HostLimits
from serving_worker.isolation.link import Link
from serving_worker.isolation.reasons import Degraded, Unanswered, refusal_of

START_S_MAX = 30
"""Loading a model may take its time; one that takes longer is killed."""
_PYTHON = (sys.executable, "-P", "-m")
_GIVE_WAY, _HOST = "serving_worker.isolation.give_way", "serving_worker.isolation.host"
_OURS = "TAILRACE_"


@dataclass(frozen=True, slots=True)
class Program:
    """What a process of a policy is started with. `environment` goes without our settings, which may hold passwords."""

    ranker: str
    catalogue: Path
    limits: HostLimits
    environment: Mapping[str, str]

    def arguments(self, descriptor: int) -> list[str]:
        named = {"--ranker": self.ranker, "--catalogue": str(self.catalogue), "--socket": str(descriptor)}
        named |= {"--worker": str(os.getpid()), "--memory-bytes-max": str(self.limits.memory_bytes_max)}
        return [*_PYTHON, _GIVE_WAY, *self._way(), _HOST, *(part for pair in named.items() for part in pair)]

    def _way(self) -> tuple[str, str]:
        processors = ",".join(map(str, sorted(self.limits.cpus)))
        return str(NICE), processors or ALL


def check_arguments(ranker: str) -> list[str]:
    """Of a process that only says whether `ranker` can be loaded."""
    return [*_PYTHON, _HOST, "--check", "--ranker", ranker]


def host_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` without ours; modules are found where the worker finds them."""
    kept = {name: value for name, value in variables.items() if not name.startswith(_OURS)}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class PolicyProcess:
    def __init__(self, child: Child, link: Link) -> None:
        self._child, self._link = child, link
        self._was_killed = False
        self.version = ""
        self.has_answered = False

    @classmethod
    async def start(cls, program: Program) -> "PolicyProcess":
        """A process that is ready to be asked.

        Raises Unanswered where it is not within START_S_MAX, OSError where the machine has no room for it.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            link = await _linked(ours)
            try:
                child = Child(program.arguments(theirs.fileno()), program.environment, theirs)
            except OSError:
                link.close()
                raise
        started = cls(child, link)
        try:
            await started._make_ready()
        except BaseException:
            await started.end()
            raise
        return started

    async def _make_ready(self) -> None:
        try:
            async with asyncio.timeout(START_S_MAX):
                self.version = _version_of(await self._link.send(b""))
        except TimeoutError as error:
            raise Unanswered(Degraded.TIMEOUT, f"it was not ready after {START_S_MAX} s") from error

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_up(self) -> bool:
        return not self._was_killed and not self._link.closed.done() and not self._child.ended.done()

    def ask(self, question: Question, reply_bytes_max: int) -> asyncio.Future[Reply]:
        """The reply, after as long as the policy takes: deadlines are the caller's. Raises Unanswered, as its future does."""
        return self._link.send(frame(question), reply_bytes_max)

    def answer_in(self, reply: Reply) -> Answer:
        """Raises Unanswered where there is none. A process whose memory has run out ends, so it is not asked again."""
        if isinstance(reply, Answer):
            self.has_answered = True
            return reply
        if isinstance(reply, Ready):
            raise Unanswered(Degraded.UNREADABLE, "it says that it is ready where it was asked")
        refused = _said(reply)
        if refused.reason is Degraded.MEMORY:
            self.kill()
        raise refused

    async def gone(self) -> None:
        """Until the process has ended, or hung up and was killed for it."""
        endings = [asyncio.shield(self._child.ended), asyncio.shield(self._link.closed)]
        await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        await self.end()

    async def end(self) -> None:
        """Kill it and whatever it has started, and see it out."""
        self.kill()
        await asyncio.shield(self._child.ended)

    def kill(self) -> None:
        self._was_killed = True
        self._child.kill()
        self._link.close()


async def _linked(ours: socket.socket) -> Link:
    loop = asyncio.get_running_loop()
    ours.setblocking(False)
    try:
        _, link = await loop.create_unix_connection(lambda: Link(loop), sock=ours)
    except BaseException:
        ours.close()
        raise
    return link


def _version_of(reply: Reply) -> str:
    if isinstance(reply, Ready):
        return reply.version
    raise Unanswered(Degraded.RANKER_FAILED, reply.message if isinstance(reply, Refusal) else "it did not say that it is ready")


def _said(refusal: Refusal) -> Unanswered:
    known = {Degraded.MEMORY, Degraded.RANKER_FAILED}
    reason = Degraded(refusal.reason) if refusal.reason in known else refusal_of(refusal.reason)
    return Unanswered(reason, refusal.message)
