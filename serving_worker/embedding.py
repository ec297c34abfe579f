"""For a recommender of one's own: the arms, and the events, without the worker.

    tailrace = Tailrace.from_environment(os.environ)
    turn = tailrace.turn("unit-1", "home")                    # which policy, with which parameters
    tailrace.served(turn, my_recommender(turn.policy_id, turn.parameters))
    tailrace.interaction(Interaction(...))

Nothing here waits, from whichever thread or coroutine it is called: arms are pure functions of a snapshot in memory, and events
go through an emitter. Make one in each process; close it, or leave it to the end of the process.
"""

import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.main import emitter_for, experiment_log_for, new_id, now_us
from schemas.environment import Environment
from schemas.events import Interaction, ItemId, Micros, RecommendationServed, RequestId, Slot, Traffic, UnitId
from serving_worker.config import ExperimentSettings
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import Decision, decide
from serving_worker.experiments.definitions import ExperimentFile, Snapshot
from serving_worker.experiments.feed import experiments_of, following, reload

CLOSE_S = 10.0
RELOAD_END_S = 5.0


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


class Tailrace:
    """Owns `emitter`, and closes it. `default_policy` answers where no arm names another."""

    def __init__(self, emitter: Emitter, experiments: ExperimentFile, *, default_policy: str, reload_s: float) -> None:
        self._emitter, self._experiments = emitter, experiments
        self._default_policy, self._reload_s = default_policy, reload_s
        self._standing = ExitStack()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tailrace-experiments", daemon=True)
        reload(experiments)
        self._thread.start()

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "Tailrace":
        """For the installation that TAILRACE_* variables name. Raises ConfigurationError; needs no part to be up."""
        read = Environment(variables)
        settings = ExperimentSettings.read(read)
        default_policy = read.text("TAILRACE_DEFAULT_POLICY", "popularity")
        read.refuse_problems()
        producer = ProducerSettings.from_environment(variables)
        found = cls(emitter_for(producer), experiments_of(settings), default_policy=default_policy, reload_s=settings.reload_s)
        found._standing.enter_context(following(settings.snapshot, partial(experiment_log_for, producer), now_us))
        return found

    def turn(self, unit_id: str, surface: str, context: Mapping[str, str] | None = None, unit_type: str = "user") -> Turn:
        """What is to answer `unit_id` on `surface`. A blank unit has control."""
        asker, now = Asker(unit_type, UnitId(unit_id), surface, context or {}), now_us()
        decision = decide(self._experiments.snapshot() or Snapshot(), asker, now, self._default_policy)
        return Turn(RequestId(new_id()), asker, now, decision)

    def served(self, turn: Turn, items: Iterable[str | Slot], told: Served = _PLAIN) -> bool:
        """Emit what was shown, in its order. False where the event is known to be lost, which is counted."""
        slots = tuple(_slot(item, position) for position, item in enumerate(items))
        asker, decision = turn.asker, turn.decision
        return self._emitter.emit(
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
        return self._emitter.emit(event)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is left, or leave it in the spool."""
        self._ending.set()
        self._standing.close()
        self._thread.join(RELOAD_END_S)
        self._emitter.close(timeout_s)

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """As FastAPI, Litestar and Starlette take it: closed with the application."""
        try:
            yield
        finally:
            self.close()

    def _follow(self) -> None:
        while not self._ending.wait(self._reload_s):
            reload(self._experiments)


def _slot(item: str | Slot, position: int) -> Slot:
    return item if isinstance(item, Slot) else Slot(ItemId(item), position)
