"""A partition from its assignment to its loss: performs the protocol's steps, one after the other, each by the edge whose it is.

protocol.py decides what comes next; nothing here does. A run goes on until the partition waits for a batch or has to rest. While
a run goes on the tenure belongs to the thread that runs it, but for `forgotten`.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from stream_processors.warehouse.batch import Batch
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letter_limit import DeadLetterLimit
from stream_processors.warehouse.delivery import Delivery, Plan
from stream_processors.warehouse.errors import NotOurs, Retryable, TooManyDeadLetters
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.ownership import Found, drain, fence
from stream_processors.warehouse.protocol import Done, Examined, Failed, Outcome, State, Step, advance
from stream_processors.warehouse.records import LIVE, Destination, Ownership, Place, Position, Route
from stream_processors.warehouse.suspicion import Look, Suspicion

log = logging.getLogger(__name__)


class Asked(Protocol):
    """Says whether a partition is still ours: raises NotOurs where it is not."""

    def ask_whether_ours(self, place: Place) -> None: ...


class Keeper(Protocol):
    """What of owning is different for the live stream and for a replay. Raises Retryable where the world stands in the way."""

    def identify(self, topic: str) -> UUID: ...
    def reconcile(self, topic_id: UUID, owner: bytes, place: Place, table: str) -> tuple[Ownership, Found]: ...
    def announce(self, ownership: Ownership, found: Found) -> None: ...


@dataclass(frozen=True, slots=True)
class Edges:
    """What the steps are performed by. Threads share them."""

    source: Asked
    writer: ClickHouseWriter
    keeper: Keeper
    delivery: Delivery
    metrics: SinkMetrics
    into: Destination = LIVE


class Tenure:
    """One partition, while the group lets us have it."""

    def __init__(self, place: Place, route: Route, edges: Edges, limit: DeadLetterLimit) -> None:
        self.place = place
        self.step = Step.REST
        self.batch: Batch | None = None
        """The batch in hand: given with a run out of GATHER, gone when it is in, or when the partition rests."""
        self.reached: Position | None = None
        """What may be committed: all below it is in."""
        self.run_s = 0.0
        """How long the last run took."""
        self.forgotten = False
        """Set by the loop when the group takes the partition away: the run ends with the step that it is in."""
        self._route, self._edges, self._limit = route, edges, limit
        self._state = State()
        self._owned_before = False
        self._suspicion = Suspicion()
        self._topic_id = UUID(int=0)
        self._owner = b""
        self._ownership: Ownership | None = None
        self._found: Found | None = None
        self._plan: Plan | None = None
        self._steps: dict[Step, Callable[[], Examined | None]] = {
            Step.ASK: self._ask,
            Step.IDENTIFY: self._identify,
            Step.FENCE: self._fence,
            Step.DRAIN: self._drain,
            Step.RECONCILE: self._reconcile,
            Step.ANNOUNCE: self._announce,
            Step.CONFIRM: self._confirm,
            Step.EXAMINE: self._examine,
            Step.BURY: self._bury,
            Step.PUBLISH: self._publish,
            Step.INSERT: self._insert,
            Step.COMMIT: self._commit,
        }

    @property
    def ownership(self) -> Ownership:
        assert self._ownership is not None, f"{self.place} is not owned in {self.step}"
        return self._ownership

    def run(self) -> Retryable | None:
        """Go on until a batch is waited for, or a rest is due. Returns what made it rest."""
        started = time.monotonic()
        outcome: Outcome = Done()
        trouble: Retryable | None = None
        while not self.forgotten:
            self._state = advance(self._state, outcome)
            self.step = self._state.step
            if self.step in (Step.GATHER, Step.REST):
                break
            outcome, trouble = self._perform()
        self.run_s = time.monotonic() - started
        return trouble if self.step is Step.REST else None

    def _perform(self) -> tuple[Outcome, Retryable | None]:
        try:
            with self._edges.metrics.spending(self.step.name.lower()):
                return self._steps[self.step]() or Done(), None
        except Retryable as trouble:
            return self._failed(trouble), trouble

    def _failed(self, trouble: Retryable) -> Failed:
        """A refusal that blames the data has the batch owned again, and looked at closer each time; after that it has to rest."""
        keep_batch = trouble.blames_the_data and self._suspicion.look < Look.WITH_THE_ENGINE
        if trouble.blames_the_data:
            self._suspicion = self._suspicion.after_refusal()
        if not keep_batch:
            self.batch = None
        self._edges.metrics.failed(self.place, trouble)
        return Failed(keep_batch)

    def _ask(self) -> None:
        """Not when the group has only just given it to us."""
        if self._owned_before:
            self._edges.source.ask_whether_ours(self.place)
        self._owned_before = True

    def _identify(self) -> None:
        topic_id = self._edges.keeper.identify(self.place.topic)
        if self._state.batch_in_hand:
            self._refuse_another(topic_id)
        self._topic_id = topic_id

    def _fence(self) -> None:
        self._owner = fence(self._edges.writer, self._topic_id, self.place, self._edges.into)

    def _drain(self) -> None:
        drain(self._edges.writer, self._edges.into.write_comment(self._topic_id, self.place.partition))

    def _reconcile(self) -> None:
        keeper, table = self._edges.keeper, self._route.table
        self._ownership, self._found = keeper.reconcile(self._topic_id, self._owner, self.place, table)
        self._edges.metrics.reconciled(self.place, self._found)
        log.info(
            "own %s from %d, %d records there already",
            self.place,
            self._ownership.start,
            self._found.present,
        )

    def _announce(self) -> None:
        assert self._found is not None, "reconciled before"
        for gap in self._found.gaps:
            log.warning("%s: a gap for ever, %s: [%s, %s) of %s", self.place, gap.reason, gap.first, gap.end, gap.topic_id)
        self._edges.keeper.announce(self.ownership, self._found)

    def _confirm(self) -> None:
        self._refuse_another(self._edges.keeper.identify(self.place.topic))

    def _examine(self) -> Examined:
        batch = self._batch_in_hand()
        plan = self._edges.delivery.examine(batch, self.ownership, self._route.record, self._suspicion.look)
        if self._limit.reached(len(batch.messages), len(plan.rejections)):
            reasons = ", ".join(sorted({rejection.letter.reason for rejection in plan.rejections}))
            raise TooManyDeadLetters(
                f"{self.place}: {len(plan.rejections)} of {len(batch.messages)} records are poison ({reasons})"
            )
        self._plan = plan
        return Examined(len(plan.burials), len(plan.inserts))

    def _bury(self) -> None:
        self._edges.delivery.bury(self._examined(), self.ownership)

    def _publish(self) -> None:
        self._edges.delivery.publish(self._examined(), self.ownership)

    def _insert(self) -> None:
        self._edges.delivery.insert(self._examined(), self.ownership, self._route.record)

    def _commit(self) -> None:
        batch, letters = self._batch_in_hand(), len(self._examined().rejections)
        self.reached, self.batch = Position(batch.end, self._topic_id), None
        self._limit.note(len(batch.messages), letters)
        self._suspicion = self._suspicion.after_batch(poisoned=letters > 0)

    def _refuse_another(self, topic_id: UUID) -> None:
        if topic_id != self._topic_id:
            raise NotOurs(f"{self.place}: the topic was made anew")

    def _batch_in_hand(self) -> Batch:
        assert self.batch is not None, f"no batch in hand in {self.step}"
        return self.batch

    def _examined(self) -> Plan:
        assert self._plan is not None, "examined before"
        return self._plan
