"""Candidate policies that rank live requests without being seen.

Guarantees: nothing of it is before an answer: the work begins when the answer's own task has let go of the event loop, in
processes that no live answer uses. What finds no room is dropped and counted; nothing waits.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import mmh3
import msgspec

from schemas.events import Event, EventId, RecommendationServed, ShadowRanking
from serving_worker.isolation.pool import PolicyAnswer
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query
from serving_worker.recommend import Clock, PolicyRunner, slots_of

DEADLINE_S = 1.0
"""Nobody waits for it; what a request would have had is told by `latency_us`."""
IN_FLIGHT_MAX = 16
"""Of all shadow policies together."""
SEED = "shadow"

_EVENTS = uuid.UUID("0b7c3d1e-5a64-5f0e-8f1b-6f3a4d2c9e58")
"""The namespace of shadow rankings' ids."""
_NOT_ASKED = frozenset({Degraded.BUSY, Degraded.STARTING, Degraded.BREAKER_OPEN})


class Outcome(StrEnum):
    RANKED = "ranked"
    FAILED = "failed"
    DROPPED = "dropped"
    """There was no room, no process, or the breaker was open: the policy was not asked, and there is no event."""


class ShadowTally(Protocol):
    def shadowed(self, policy_id: str, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ShadowOutlets:
    emit: Callable[[Event], bool]
    tally: ShadowTally
    clock: Clock


class Shadow:
    """`shares` are of the requests, by policy. A request is in or out by its id: sent again, it is the same."""

    def __init__(self, shares: Mapping[str, float], policies: PolicyRunner, outlets: ShadowOutlets) -> None:
        self._shares, self._policies = shares, policies
        self._emit, self._tally, self._clock = outlets.emit, outlets.tally, outlets.clock
        self._running: set[asyncio.Task[None]] = set()

    def follow(self, served: RecommendationServed, query: Query) -> None:
        """Have the candidates rank what has just been answered, each under its own parameters."""
        plain = msgspec.structs.replace(query, parameters={})
        for policy_id, share in self._shares.items():
            if not is_within(share, policy_id, served.request_id):
                continue
            if len(self._running) >= IN_FLIGHT_MAX:
                self._tally.shadowed(policy_id, Outcome.DROPPED)
                continue
            task = asyncio.create_task(self._rank(policy_id, served, plain))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _rank(self, policy_id: str, served: RecommendationServed, query: Query) -> None:
        started_us = self._clock.monotonic_us()
        answer, failed = None, None
        try:
            answer = await self._policies.rank(policy_id, query, f"{SEED}:{served.request_id}", DEADLINE_S)
        except Unanswered as error:
            failed = error.reason
        if failed in _NOT_ASKED:
            self._tally.shadowed(policy_id, Outcome.DROPPED)
            return
        self._tally.shadowed(policy_id, Outcome.FAILED if failed else Outcome.RANKED)
        self._emit(_event(policy_id, served, answer, failed, self._clock.monotonic_us() - started_us))


def is_within(share: float, policy_id: str, request_id: str) -> bool:
    """Whether a request is among a policy's share of them; each policy has a sample of its own."""
    place: int = mmh3.hash(f"{SEED}\0{policy_id}\0{request_id}", signed=False)
    return place < share * 2**32


def _event(
    policy_id: str, served: RecommendationServed, answer: PolicyAnswer | None, failed: Degraded | None, latency_us: int
) -> ShadowRanking:
    return ShadowRanking(
        event_id=EventId(str(uuid.uuid5(_EVENTS, f"{policy_id}\0{served.request_id}"))),
        occurred_at=served.occurred_at,
        unit_type=served.unit_type,
        unit_id=served.unit_id,
        session_id=served.session_id,
        traffic=served.traffic,
        request_id=served.request_id,
        surface=served.surface,
        policy_id=policy_id,
        policy_version=None if answer is None else answer.version,
        live_policy_id=served.policy_id,
        failed=failed,
        slots=() if answer is None else slots_of(answer.ranking.ranked),
        slate_log_propensity=None if answer is None else answer.ranking.log_propensity,
        latency_us=latency_us,
    )
