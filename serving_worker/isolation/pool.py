"""The processes of one policy: who gets one, for how long, and what happens to one that overruns.

Guarantees: a call ends within its deadline, whatever the policy does; at most `processes` run and `waiting_max` calls wait. A
process that overran, crashed or lied about its frames is killed with its process group and another is started after a pause.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from serving_worker.catalogue import ItemsById
from serving_worker.isolation.breaker import Breaker, State
from serving_worker.isolation.frames import Question, Reply, reply_bytes_max
from serving_worker.isolation.limits import PoolLimits
from serving_worker.isolation.process import PolicyProcess, Program
from serving_worker.isolation.reasons import FAULTS, Degraded, Unanswered
from serving_worker.isolation.verdict import ranking_of
from serving_worker.rankers.ranking import Query, Ranking
from serving_worker.rare_log import RareLog

logger = logging.getLogger(__name__)

RESTART_PAUSE_S_MIN, RESTART_PAUSE_S_MAX = 0.1, 30.0
CLOSE_S_MAX = 2.0
"""For processes that were killed to end. One that the system does not let go of (a disk that hangs) is left to it."""
WAITING_SHARE_MAX = 0.5
"""Of a request's deadline. A policy that was asked later would be blamed for a queue, and work on what nobody waits for."""


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """`version` is the ranker's, None where it has none to tell."""

    ranking: Ranking
    version: str | None


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """`pids` are of the processes that are up. `started`, and `overrun` (killed for their time), count from the beginning."""

    pids: tuple[int, ...]
    waiting: int
    breaker: State
    started: int
    overrun: int


def restart_pause_s(failures: int) -> float:
    """After so many processes in a row that never answered."""
    return min(RESTART_PAUSE_S_MAX, RESTART_PAUSE_S_MIN * 2.0 ** min(failures, 16))


class Pool:
    """Belongs to the event loop that first asks it."""

    def __init__(
        self, name: str, program: Program, items: ItemsById, limits: PoolLimits, monotonic_us: Callable[[], int]
    ) -> None:
        self.name = name
        self._program, self._limits, self._now_us = program, limits, monotonic_us
        self._items, self._log = items, RareLog(logger, monotonic_us)
        self._item_bytes = {surface: max(len(name.encode()) for name in names) for surface, names in items.items()}
        self._breaker = Breaker()
        self._seats: list[asyncio.Task[None]] = []
        self._up: set[PolicyProcess] = set()
        self.is_up = asyncio.Event()
        """Set while a process is."""
        self._free: asyncio.Queue[PolicyProcess] = asyncio.Queue()
        self._waiting = self._started = self._overrun = 0
        self._settling: set[asyncio.Task[None]] = set()

    def status(self) -> PoolStatus:
        pids = tuple(sorted(process.pid for process in self._up))
        return PoolStatus(pids, self._waiting, self._breaker.state, self._started, self._overrun)

    def open(self) -> None:
        """Start its processes, if they have not been started before. Waits for nothing."""
        if not self._seats:
            self._seats = [asyncio.create_task(self._keep_one_up()) for _ in range(self._limits.processes)]

    async def close(self) -> None:
        """Kill them, and see them out, for CLOSE_S_MAX at most."""
        tasks = [*self._seats, *self._settling]
        for task in tasks:
            task.cancel()
        for process in self._up:
            process.kill()
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.gather(*(process.end() for process in self._up))
        except TimeoutError:
            self._log.warn(f"policy {self.name}: a killed process has not ended after {CLOSE_S_MAX} s; it is left behind")
        self._up.clear()

    async def rank(self, query: Query, seed: str, deadline_s: float) -> PolicyAnswer:
        """Raises Unanswered, `deadline_s` from now at the latest."""
        self.open()
        ticket = self._breaker.admit(self._now_us())
        if ticket is None:
            raise Unanswered(Degraded.BREAKER_OPEN, "it has failed too often of late")
        try:
            answer = await self._answer(query, seed, deadline_s)
        except Unanswered as error:
            self._count(ticket, error)
            raise
        except BaseException:  # the request was cancelled
            self._breaker.abandoned(ticket)
            raise
        self._breaker.succeeded(ticket, self._now_us())
        return answer

    async def _answer(self, query: Query, seed: str, deadline_s: float) -> PolicyAnswer:
        began = asyncio.get_running_loop().time()
        until = began + deadline_s
        process = await self._take(began + deadline_s * WAITING_SHARE_MAX)
        items = self._items[query.surface]
        asking = process.ask(Question(query, seed), reply_bytes_max(min(query.k, len(items)), self._item_bytes[query.surface]))
        try:
            await asyncio.wait((asking,), timeout=max(0.0, until - asyncio.get_running_loop().time()))
        finally:
            self._hand_back(process, asking)
        if not asking.done():
            raise Unanswered(Degraded.TIMEOUT, f"no answer after {deadline_s} s")
        return PolicyAnswer(ranking_of(process.answer_in(asking.result()), items, query.k), process.version)

    async def _take(self, until: float) -> PolicyProcess:
        """One that is free before `until`. Raises Unanswered."""
        if not self._up:
            raise Unanswered(Degraded.STARTING, "no process is up")
        if self._free.empty() and self._waiting >= self._limits.waiting_max:
            raise Unanswered(Degraded.BUSY, f"{self._waiting} requests wait already")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(until):
                while not (process := await self._free.get()).is_up:
                    pass
        except TimeoutError as error:
            raise Unanswered(Degraded.BUSY, "no process came free in time") from error
        finally:
            self._waiting -= 1
        if asyncio.get_running_loop().time() >= until:  # the worker's loop itself was late
            self._free.put_nowait(process)
            raise Unanswered(Degraded.BUSY, "there is no time left to ask it")
        return process

    def _hand_back(self, process: PolicyProcess, asking: asyncio.Future[Reply]) -> None:
        if asking.done():
            self._free.put_nowait(process)
            return
        settling = asyncio.create_task(self._settle(process, asking))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    async def _settle(self, process: PolicyProcess, asking: asyncio.Future[Reply]) -> None:
        """One that is only a little late is worth keeping: on a machine that stalls, killing makes it worse."""
        await asyncio.wait({asking}, timeout=self._limits.grace_s)
        if asking.done() and (asking.cancelled() or asking.exception() is None):
            self._free.put_nowait(process)
            return
        self._overrun += 1
        process.kill()

    async def _keep_one_up(self) -> None:
        """A process that is started again whenever it has ended."""
        failures = 0
        while True:
            has_answered = await self._one_life()
            failures = 0 if has_answered else failures + 1
            await asyncio.sleep(restart_pause_s(failures))

    async def _one_life(self) -> bool:
        """From a process's start to its end. Whether it has ever answered."""
        try:
            process = await PolicyProcess.start(self._program)
        except Exception as error:  # noqa: BLE001 - the top of a seat's loop: whatever it is, the seat must not stay empty
            self._log.warn(f"policy {self.name} cannot start, {type(error).__name__}: {str(error)!r}")
            return False
        self._started += 1
        self._up.add(process)
        self.is_up.set()
        self._free.put_nowait(process)
        await process.gone()
        self._up.discard(process)
        if not self._up:
            self.is_up.clear()
        self._forget_the_dead()
        return process.has_answered

    def _forget_the_dead(self) -> None:
        for _ in range(self._free.qsize()):
            if (process := self._free.get_nowait()).is_up:
                self._free.put_nowait(process)

    def _count(self, ticket: int, error: Unanswered) -> None:
        if error.reason in FAULTS:
            self._breaker.failed(ticket, self._now_us())
            self._log.warn(f"policy {self.name} gave no answer, {error.reason}: {str(error)!r}")
        else:
            self._breaker.abandoned(ticket)
