"""For a recommender of one's own: the arms, and the events, without the worker.

    tailrace = Tailrace.from_environment(os.environ)
    turn = tailrace.turn("unit-1", "home")                    # which policy, with which parameters
    tailrace.served(turn, my_recommender(turn.policy_id, turn.parameters))
    tailrace.interaction(Interaction(...))

Nothing here waits, from whichever thread or coroutine it is called: arms are pure functions of a snapshot in memory, and events
go through an emitter. It may be made before a fork: each process then follows the experiments and emits for itself. Close it, or
leave it to the end of the process.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.main import emitter_for, experiment_log_for, new_id, now_us
from schemas.environment import Environment
from schemas.events import ExperimentId, Interaction, ItemId, Micros, RecommendationServed, RequestId, Slot, Traffic, UnitId
from serving_worker.config import ExperimentSettings, default_policy
from serving_worker.embedded_watch import EmbeddedWatch
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import Decision, decide
from serving_worker.experiments.feed import errand_of, experiments_of

CLOSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One request: who asks, and what the arms say. `parameters` are those of all arms; `policy_id` is one of them."""

    request_id: RequestId
    asker: Asker
    began_at: Micros
    decision: Decision

    @property
    def policy_id(self) -> str:
        return self.decision.policy_id

    @property
    def parameters(self) -> Mapping[str, str]:
        return self.decision.parameters


@dataclass(frozen=True, slots=True)
class Served:
    """What a recommender may tell of its answer beside the items. `policy_id` None stands for the intended one."""

    policy_id: str | None = None
    policy_version: str | None = None
    degraded: str | None = None
    candidate_set_id: str | None = None
    candidate_count: int | None = None
    session_id: str | None = None
    traffic: Traffic = Traffic.LIVE
    logged_context: Mapping[str, str] = field(default_factory=dict)


_PLAIN = Served()


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """`default_policy` answers where no arm names another."""

    experiments: ExperimentSettings
    producer: ProducerSettings
    default_policy: str

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "EmbeddingSettings":
        """Raises ConfigurationError that names every wrong variable."""
        read = Environment(variables)
        experiments = ExperimentSettings.read(read)
        policy = default_policy(read)
        read.refuse_problems()
        return cls(experiments, ProducerSettings.from_environment(variables), policy)


class Tailrace:
    """Owns `emitter` and `experiments`, and closes them. `default_policy` answers where no arm names another."""

    def __init__(self, emitter: Emitter, experiments: EmbeddedWatch, *, default_policy: str) -> None:
        self.emitter, self.experiments = emitter, experiments
        self._default_policy = default_policy

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "Tailrace":
        """For the installation that TAILRACE_* variables name. Raises ConfigurationError; needs no part to be up."""
        return cls.of(EmbeddingSettings.from_environment(variables))

    @classmethod
    def of(cls, settings: EmbeddingSettings) -> "Tailrace":
        found, open_log = settings.experiments, partial(experiment_log_for, settings.producer)
        errand = errand_of(found, open_log, now_us)
        emitter = emitter_for(settings.producer)
        return cls(emitter, EmbeddedWatch(experiments_of(found), found.reload_s, errand), default_policy=settings.default_policy)

    def turn(
        self,
        unit_id: str,
        surface: str,
        context: Mapping[str, str] | None = None,
        unit_type: str = "user",
        *,
        forced: Mapping[str, str] | None = None,
    ) -> Turn:
        """What is to answer `unit_id` on `surface`. A blank unit has control.

        `forced` names arms by experiment, for those who look at an answer before users do: its event is Traffic.FORCED, which no
        verdict counts.
        """
        arms = {ExperimentId(name): arm for name, arm in (forced or {}).items()}
        asker, now = Asker(unit_type, UnitId(unit_id), surface, context or {}, arms), now_us()
        decision = decide(self.experiments.snapshot(), asker, now, self._default_policy)
        return Turn(RequestId(new_id()), asker, now, decision)

    def served(self, turn: Turn, items: Iterable[str | Slot], told: Served = _PLAIN) -> bool:
        """Emit what was shown, in its order. False where the event is known to be lost, which is counted."""
        slots = tuple(_slot(item, position) for position, item in enumerate(items))
        asker, decision = turn.asker, turn.decision
        return self.emitter.emit(
            RecommendationServed(
                occurred_at=turn.began_at,
                unit_type=asker.unit_type,
                unit_id=asker.unit_id,
                traffic=Traffic.FORCED if decision.forced else told.traffic,
                request_id=turn.request_id,
                surface=asker.surface,
                policy_id=told.policy_id or decision.policy_id,
                intended_policy_id=decision.policy_id,
                assignments=decision.assignments,
                slots=slots,
                context=told.logged_context,
                session_id=told.session_id,
                policy_version=told.policy_version,
                degraded=told.degraded,
                candidate_set_id=told.candidate_set_id,
                candidate_count=told.candidate_count,
                latency_us=max(0, now_us() - turn.began_at),
            )
        )

    def interaction(self, event: Interaction) -> bool:
        """Emit what a unit did. False where the event is known to be lost, which is counted."""
        return self.emitter.emit(event)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is left, or leave it in the spool, within `timeout_s`. Whoever looks at the experiments or follows them has
        been told to end by then, and is waited for afterwards: a disk that hangs costs no event.
        """
        self.experiments.end()
        self.emitter.close(timeout_s)
        self.experiments.close()

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """As FastAPI, Litestar and Starlette take it: closed with the application."""
        try:
            yield
        finally:
            self.close()


def _slot(item: str | Slot, position: int) -> Slot:
    return item if isinstance(item, Slot) else Slot(ItemId(item), position)
