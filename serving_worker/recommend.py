"""Answering one request: assign, shed or rank, fall back, emit.

Guarantees: a unit is assigned before anything is shed; whatever a policy does, the request is answered by the control at the
latest when the policy's share of the budget is over; the event says whose answer was meant, and why it is another's. Does no I/O
of its own: the emission only queues.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from schemas.events import (
    Assignment,
    Event,
    EventId,
    ItemId,
    Micros,
    RecommendationServed,
    RequestId,
    Slot,
    Traffic,
)
from serving_worker.capacity import Capacity
from serving_worker.catalogue import Catalogue
from serving_worker.control import LAST_RESORT, Control
from serving_worker.errors import Shed
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import Decision, decide
from serving_worker.experiments.definitions import Experiments
from serving_worker.isolation.pool import PolicyAnswer
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query, Ranked
from serving_worker.rare_log import RareLog

logger = logging.getLogger(__name__)

FALLBACK_SOURCE = "fallback"
POLICY_SHARE = 0.8
"""Of the request's budget; the rest is the control's, and the answer's way out."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that has been checked."""

    request_id: RequestId
    asker: Asker
    k: int
    traffic: Traffic
    session_id: str | None


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """`context_keys` are the keys of a request's context that may be logged. One `seed` and request_id draw the same answer."""

    context_keys: frozenset[str]
    seed: int
    budget_us: int = 100_000


class PolicyRunner(Protocol):
    async def rank(self, policy_id: str, query: Query, seed: str, deadline_s: float) -> PolicyAnswer:
        """Raises Unanswered, `deadline_s` from now at the latest."""
        ...


@dataclass(frozen=True, slots=True)
class Shelf:
    """What can be recommended, and who can choose from it."""

    catalogue: Catalogue
    control: Control
    policies: PolicyRunner


@dataclass(frozen=True, slots=True)
class Clock:
    """`now_us` tells the time, which may jump; `monotonic_us` runs on evenly, for durations."""

    now_us: Callable[[], Micros]
    monotonic_us: Callable[[], int]


class Tally(Protocol):
    def answered(self, served: RecommendationServed) -> None: ...

    def shed(self, assignments: Iterable[Assignment]) -> None: ...


@dataclass(frozen=True, slots=True)
class Gates:
    """What a request passes on its way in, and its answer on its way out: how much may be in the worker; where events go, who
    counts, and who looks at an answer when it is out.
    """

    capacity: Capacity
    emit: Callable[[Event], bool]
    tally: Tally
    shadow: Callable[[RecommendationServed, Query], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """The ranking that answers. `degraded` says why it is not the intended policy's; None where it is."""

    policy_id: str
    answer: PolicyAnswer
    degraded: Degraded | None = None


class Recommender:
    def __init__(self, shelf: Shelf, experiments: Experiments, settings: RecommenderSettings, gates: Gates, clock: Clock) -> None:
        self._surfaces, self._control, self._policies = shelf.catalogue.surfaces, shelf.control, shelf.policies
        self._experiments, self._settings = experiments, settings
        self._gates, self._clock = gates, clock
        self._log = RareLog(logger, clock.monotonic_us)

    def knows(self, surface: str) -> bool:
        return surface in self._surfaces

    async def recommend(self, ask: Ask) -> RecommendationServed:
        """The answer, as it was emitted. `ask.asker.surface` must be known.

        Raises Shed where the worker has more to do than it can; the unit is assigned and counted all the same.
        """
        started, now = self._clock.monotonic_us(), self._clock.now_us()
        decision = decide(self._experiments.snapshot(), ask.asker, now, self._control.policy_id)
        query = _query(ask, decision)
        try:
            with self._gates.capacity.place():
                choice = await self._choose(decision.policy_id, query, f"{self._settings.seed}:{ask.request_id}", started)
        except Shed:
            self._gates.tally.shed(decision.assignments)
            raise
        served = self._served(ask, now, decision, choice, started)
        self._gates.emit(served)
        self._gates.tally.answered(served)
        self._gates.shadow(served, query)
        return served

    async def _choose(self, policy_id: str, query: Query, seed: str, started_us: int) -> Choice:
        try:
            if policy_id == self._control.policy_id:
                return Choice(policy_id, self._control.rank(query, seed))
            left_us = self._settings.budget_us * POLICY_SHARE - (self._clock.monotonic_us() - started_us)
            return Choice(policy_id, await self._policies.rank(policy_id, query, seed, left_us / 1e6))
        except Unanswered as error:
            return self._fall_back(error.reason, query, seed)

    def _fall_back(self, reason: Degraded, query: Query, seed: str) -> Choice:
        """The control, under its own parameters. It draws afresh: a policy may have failed because of what it drew."""
        plain = msgspec.structs.replace(query, parameters={})
        try:
            return Choice(self._control.policy_id, self._control.rank(plain, f"{seed}:control"), reason)
        except Unanswered as error:
            self._log.warn(f"the control {self._control.policy_id} gave no answer, {error.reason}: {error}")
            return Choice(LAST_RESORT, self._control.last_resort(plain), reason)

    def _served(self, ask: Ask, now: Micros, decision: Decision, choice: Choice, started_us: int) -> RecommendationServed:
        asker, candidates = ask.asker, self._surfaces[ask.asker.surface]
        return RecommendationServed(
            event_id=EventId(ask.request_id),
            occurred_at=now,
            unit_type=asker.unit_type,
            unit_id=asker.unit_id,
            session_id=ask.session_id,
            traffic=Traffic.FORCED if decision.forced else ask.traffic,
            request_id=ask.request_id,
            surface=asker.surface,
            policy_id=choice.policy_id,
            policy_version=choice.answer.version,
            intended_policy_id=decision.policy_id,
            degraded=choice.degraded,
            assignments=decision.assignments,
            slots=slots_of(choice.answer.ranking.ranked, FALLBACK_SOURCE if choice.degraded else None),
            candidate_set_id=candidates.candidate_set_id,
            candidate_count=len(candidates.items),
            slate_log_propensity=choice.answer.ranking.log_propensity,
            context={key: value for key, value in asker.context.items() if key in self._settings.context_keys},
            latency_us=self._clock.monotonic_us() - started_us,
        )


def slots_of(ranked: Iterable[Ranked], source: str | None = None) -> tuple[Slot, ...]:
    """`source` stands for the candidates' own where it is given."""
    return tuple(
        Slot(
            item_id=ItemId(one.candidate.item_id),
            position=position,
            score=one.candidate.score if one.score is None else one.score,
            propensity=one.propensity,
            source=source or one.candidate.source,
            team=one.candidate.team,
        )
        for position, one in enumerate(ranked)
    )


def _query(ask: Ask, decision: Decision) -> Query:
    asker = ask.asker
    return Query(
        surface=asker.surface,
        k=ask.k,
        unit_type=asker.unit_type,
        unit_id=asker.unit_id,
        session_id=ask.session_id,
        context=asker.context,
        parameters=decision.parameters,
    )
