"""One subprocess that runs one policy: started, asked, killed. It answers one question at a time."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serving_worker.isolation.frames import Answer, Question, Ready, Refusal, Reply, frame
from serving_worker.isolation.limits import HostLimits
from serving_worker.isolation.link import Link
from serving_worker.isolation.reasons import Degraded, Unanswered, refusal_of

START_S_MAX = 30
"""Loading a model may take its time; one that takes longer is killed."""
_HOST = (sys.executable, "-P", "-m", "serving_worker.isolation.host")
_OURS = "TAILRACE_"


@dataclass(frozen=True, slots=True)
class Program:
    """What a process of a policy is started with. `environment` goes without our settings, which may hold passwords."""

    ranker: str
    catalogue: Path
    limits: HostLimits
    environment: Mapping[str, str]

    def arguments(self, descriptor: int) -> list[str]:
        named = {"--ranker": self.ranker, "--catalogue": str(self.catalogue), "--limits": self.limits.text()}
        named |= {"--socket": str(descriptor), "--worker": str(os.getpid())}
        return [*_HOST, *(part for pair in named.items() for part in pair)]


def check_arguments(ranker: str) -> list[str]:
    """Of a process that only says whether `ranker` can be loaded."""
    return [*_HOST, "--check", "--ranker", ranker]


def host_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` without ours; modules are found where the worker finds them."""
    kept = {name: value for name, value in variables.items() if not name.startswith(_OURS)}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class PolicyProcess:
    def __init__(self, process: asyncio.subprocess.Process, link: Link) -> None:
        self._process, self._link = process, link
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
            ours.setblocking(False)
            try:
                process = await _spawn(program, theirs)
            except BaseException:
                ours.close()
                raise
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: Link(loop), sock=ours)
        started = cls(process, link)
        try:
            async with asyncio.timeout(START_S_MAX):
                started.version = _version_of(await link.send(b""))
        except BaseException as error:
            await started.end()
            if isinstance(error, TimeoutError):
                raise Unanswered(Degraded.TIMEOUT, f"it was not ready after {START_S_MAX} s") from error
            raise
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return not self._was_killed and not self._link.closed.done() and self._process.returncode is None

    def ask(self, question: Question) -> asyncio.Future[Reply]:
        """The reply, after as long as the policy takes: deadlines are the caller's. Raises Unanswered, as its future does."""
        return self._link.send(frame(question))

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
        ending = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((ending, asyncio.shield(self._link.closed)), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
        await self.end()

    async def end(self) -> None:
        """Kill it and whatever it has started, and see it out."""
        self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """It leads a process group of its own, which its id names for as long as a member lives."""
        self._was_killed = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._link.close()


async def _spawn(program: Program, theirs: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *program.arguments(theirs.fileno()),
        pass_fds=(theirs.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env=dict(program.environment),
    )


def _version_of(reply: Reply) -> str:
    if isinstance(reply, Ready):
        return reply.version
    raise Unanswered(Degraded.RANKER_FAILED, reply.message if isinstance(reply, Refusal) else "it did not say that it is ready")


def _said(refusal: Refusal) -> Unanswered:
    known = {Degraded.MEMORY, Degraded.RANKER_FAILED}
    reason = Degraded(refusal.reason) if refusal.reason in known else refusal_of(refusal.reason)
    return Unanswered(reason, refusal.message)
