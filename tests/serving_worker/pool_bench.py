"""A pool of a policy's processes, and what tests ask it."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from serving_worker.catalogue import by_item_id, load_catalogue
from serving_worker.isolation.limits import MIB, HostLimits, PoolLimits
from serving_worker.isolation.pool import PolicyAnswer, Pool
from serving_worker.isolation.process import Program, host_environment
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query
from tests.serving_worker.child_processes import policy_processes
from tests.serving_worker.hostile_rankers import HOSTILE

ITEMS = "abcdef"
LIMITS = PoolLimits(processes=1, grace_s=0.0, host=HostLimits(memory_bytes_max=256 * MIB))
LONG_S = 30.0
"""A deadline that nothing well behaved comes near, on a machine however slow."""
SHORT_S = 0.2
"""The deadline of what never ends."""

Body = Callable[[Pool], Awaitable[None]]


class Bench:
    """Runs a body with an open pool; `now_us` is the breaker's clock, and stands still unless it is moved."""

    def __init__(self, catalogue: Path) -> None:
        self.catalogue, self.now_us = catalogue, 0
        self.variables = dict(os.environ)

    def pool(self, ranker: str = HOSTILE, limits: PoolLimits = LIMITS) -> Pool:
        program = Program(ranker, self.catalogue, limits.host, host_environment(self.variables))
        return Pool("hostile", program, by_item_id(load_catalogue(self.catalogue)), limits, lambda: self.now_us)

    def run(self, body: Body, limits: PoolLimits = LIMITS) -> None:
        async def with_pool() -> None:
            pool = self.pool(limits=limits)
            pool.open()
            try:
                await asyncio.wait_for(pool.is_up.wait(), LONG_S)
                await body(pool)
            finally:
                await pool.close()

        uvloop.run(with_pool())  # the worker's loop; asyncio's own is that of test_isolation_worker.py


@contextmanager
def pool_bench(directory: Path) -> Iterator[Bench]:
    """Leaves no process behind."""
    catalogue = directory / "catalogue.json"
    catalogue.write_text(json.dumps({"surfaces": {"home": {"items": [{"item_id": item} for item in ITEMS]}}}), encoding="utf-8")
    yield Bench(catalogue)
    assert policy_processes() == []


def asking(act: str = "", **parameters: str) -> Query:
    return Query(surface="home", k=3, parameters={"act": act, **parameters})


async def reason_of(answer: Awaitable[PolicyAnswer]) -> Degraded:
    with pytest.raises(Unanswered) as unanswered:
        await answer
    return unanswered.value.reason


async def answered(pool: Pool) -> list[str]:
    """What a well-behaved request is answered with, as soon as a process is there for it."""
    answer = None
    while answer is None:
        await asyncio.wait_for(pool.is_up.wait(), LONG_S)
        answer = await unless_starting(pool)
    return [ranked.candidate.item_id for ranked in answer.ranking.ranked]


async def unless_starting(pool: Pool) -> PolicyAnswer | None:
    """A process that is about to be seen to have ended still counts as up."""
    try:
        return await pool.rank(asking(), "seed", LONG_S)
    except Unanswered as error:
        if error.reason is not Degraded.STARTING:
            raise
        return None
