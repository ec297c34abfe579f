"""Answering one request: assign, rank, fall back, emit. Does no I/O: the emission only queues."""

import dataclasses
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from schemas.events import (
    Event,
    EventId,
    ItemId,
    Micros,
    RecommendationServed,
    RequestId,
    Slot,
    Traffic,
)
from serving_worker.assignment import Asker
from serving_worker.catalogue import Candidates, Catalogue
from serving_worker.decision import Decision, decide
from serving_worker.errors import RankerError
from serving_worker.experiments import Experiments, Snapshot
from serving_worker.rankers.ranking import Ranked, Ranker, Ranking

logger = logging.getLogger(__name__)

FALLBACK_POLICY = "popularity"
FALLBACK_SOURCE = "fallback"


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

    default_policy: str
    context_keys: frozenset[str]
    seed: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """What can be recommended, and the policies that can choose from it, by the names that arms give them."""

    catalogue: Catalogue
    rankers: Mapping[str, Ranker]


@dataclass(frozen=True, slots=True)
class Clock:
    """`now_us` tells the time, which may jump; `monotonic_us` runs on evenly, for durations."""

    now_us: Callable[[], Micros]
    monotonic_us: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Choice:
    """The ranking that answers. `degraded` says why it is not the intended policy's; None where it is."""

    policy_id: str
    ranking: Ranking
    degraded: str | None = None


class Recommender:
    def __init__(
        self,
        shelf: Shelf,
        experiments: Experiments,
        settings: RecommenderSettings,
        emit: Callable[[Event], bool],
        clock: Clock,
    ) -> None:
        self._surfaces, self._rankers = shelf.catalogue.surfaces, shelf.rankers
        self._experiments, self._settings = experiments, settings
        self._emit, self._clock = emit, clock

    def knows(self, surface: str) -> bool:
        return surface in self._surfaces

    async def recommend(self, ask: Ask) -> RecommendationServed:
        """The answer, as it was emitted. `ask.asker.surface` must be known."""
        started = self._clock.monotonic_us()
        now = self._clock.now_us()
        decision = decide(self._experiments.snapshot() or Snapshot(), ask.asker, now, self._settings.default_policy)
        candidates = self._surfaces[ask.asker.surface]
        choice = self._choose(decision, candidates, ask)
        served = self._served(ask, now, decision, choice, candidates)
        served = dataclasses.replace(served, latency_us=self._clock.monotonic_us() - started)
        self._emit(served)
        return served

    def _choose(self, decision: Decision, candidates: Candidates, ask: Ask) -> Choice:
        draw = random.Random(f"{self._settings.seed}:{ask.request_id}")  # noqa: S311 - not for secrets; an answer can be drawn again
        ranker = self._rankers.get(decision.policy_id)
        if ranker is None:
            return self._fall_back("unknown_policy", candidates, ask.k)
        try:
            return Choice(decision.policy_id, ranker.rank(candidates, ask.k, decision.parameters, draw))
        except RankerError as error:
            logger.debug("%s cannot rank: %s", decision.policy_id, error)
            return self._fall_back(error.reason, candidates, ask.k)
        except Exception:
            logger.exception("the ranker %s failed", decision.policy_id)
            return self._fall_back("ranker_failed", candidates, ask.k)

    def _fall_back(self, reason: str, candidates: Candidates, k: int) -> Choice:
        """Popularity, without propensities: no policy chose these items."""
        ranked = tuple(Ranked(candidate, None) for candidate in candidates.items[:k])
        return Choice(FALLBACK_POLICY, Ranking(ranked, None), reason)

    def _served(self, ask: Ask, now: Micros, decision: Decision, choice: Choice, candidates: Candidates) -> RecommendationServed:
        asker, ranker = ask.asker, self._rankers.get(choice.policy_id)
        return RecommendationServed(
            event_id=EventId(ask.request_id),
            occurred_at=now,
            unit_type=asker.unit_type,
            unit_id=asker.unit_id,
            session_id=ask.session_id,
            traffic=ask.traffic,
            request_id=ask.request_id,
            surface=asker.surface,
            policy_id=choice.policy_id,
            policy_version=None if ranker is None else ranker.version,
            intended_policy_id=decision.policy_id,
            degraded=choice.degraded,
            assignments=decision.assignments,
            slots=slots_of(choice),
            candidate_set_id=candidates.candidate_set_id,
            candidate_count=len(candidates.items),
            slate_log_propensity=choice.ranking.log_propensity,
            context={key: value for key, value in asker.context.items() if key in self._settings.context_keys},
        )


def slots_of(choice: Choice) -> tuple[Slot, ...]:
    return tuple(
        Slot(
            item_id=ItemId(ranked.candidate.item_id),
            position=position,
            score=ranked.candidate.score,
            propensity=ranked.propensity,
            source=FALLBACK_SOURCE if choice.degraded else ranked.candidate.source,
            team=ranked.candidate.team,
        )
        for position, ranked in enumerate(choice.ranking.ranked)
    )
