"""All policies that run outside the worker, each with processes of its own."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from serving_worker.isolation.pool import PolicyAnswer, Pool, PoolStatus
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query


class Policies:
    """`make` builds the pool of a policy that is in `names`; it is built when it is first needed."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Pool]) -> None:
        self._names, self._make = frozenset(names), make
        self._pools: dict[str, Pool] = {}

    def status(self) -> Mapping[str, PoolStatus]:
        """Of those that have been built."""
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

    async def close(self) -> None:
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def _pool(self, policy_id: str) -> Pool | None:
        if policy_id in self._names and policy_id not in self._pools:
            self._pools[policy_id] = self._make(policy_id)
        return self._pools.get(policy_id)
