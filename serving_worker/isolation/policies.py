"""All policies that run outside the worker, each with processes of its own."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from serving_worker.isolation.pool import PolicyAnswer, Pool, PoolStatus
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query

UNWANTED_S_MAX = 60
"""A policy that nobody has wanted for so long has no processes. What is paused for a moment need not load its model again."""


class Policies:
    """`make` builds the pool of a policy that is in `names`; it is built whenever it is needed and not there."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Pool], monotonic_us: Callable[[], int]) -> None:
        self._names, self._make, self._now_us = frozenset(names), make, monotonic_us
        self._pools: dict[str, Pool] = {}
        self._wanted_us: dict[str, int] = {}
        """When each was last warmed or asked."""
        self._closing: set[asyncio.Task[None]] = set()

    def status(self) -> Mapping[str, PoolStatus]:
        """Of those that are built."""
        return {name: pool.status() for name, pool in self._pools.items()}

    async def rank(self, policy_id: str, query: Query, seed: str, deadline_s: float) -> PolicyAnswer:
        """Raises Unanswered, `deadline_s` from now at the latest."""
        pool = self._pool(policy_id)
        if pool is None:
            raise Unanswered(Degraded.UNKNOWN_POLICY, f"there is no policy {policy_id!r}")
        return await pool.rank(query, seed, deadline_s)

    def warm(self, policy_ids: Iterable[str]) -> None:
        """Start the processes of these policies, where that has not been done. Unknown ones are passed over."""
        for policy_id in policy_ids:
            if pool := self._pool(policy_id):
                pool.open()

    async def wait_until_up(self, timeout_s: float) -> None:
        """Until every warmed policy has a process up, or `timeout_s` are over: a policy that never starts holds up nobody."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(pool.is_up.wait() for pool in self._pools.values()))

    def close_unwanted(self) -> None:
        """Begin to end the processes of policies that were neither warmed nor asked for UNWANTED_S_MAX."""
        now_us = self._now_us()
        for policy_id in [name for name in self._pools if now_us - self._wanted_us[name] > UNWANTED_S_MAX * 1_000_000]:
            closing = asyncio.create_task(self._pools.pop(policy_id).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        await asyncio.gather(*self._closing, *(pool.close() for pool in self._pools.values()))

    def _pool(self, policy_id: str) -> Pool | None:
        if policy_id not in self._names:
            return None
        self._wanted_us[policy_id] = self._now_us()
        if (pool := self._pools.get(policy_id)) is None:
            pool = self._pools[policy_id] = self._make(policy_id)
        return pool
