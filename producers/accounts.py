"""What became of the events of one topic, and the checkpoint that says so."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.events import ArmCount, Event, ExperimentId, Micros, ProducerCheckpoint, ProducerId, RecommendationServed


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """`accepted` events have a producer_seq, `delivered` ones the broker's acknowledgement; `dropped` counts losses by reason."""

    topic: str
    accepted: int
    delivered: int
    dropped: Mapping[str, int]

    @property
    def undelivered(self) -> int:
        """Accepted, and not acknowledged so far."""
        return self.accepted - self.delivered


class Account:
    """Counts of one topic. Losses may be counted from any thread (guarded by `_lock`); all else belongs to the courier's."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._delivered = 0
        self._dropped: Counter[str] = Counter()
        self._details: dict[str, str] = {}
        self._exposed: Counter[tuple[ExperimentId, str]] = Counter()
        self._lock = threading.Lock()

    def lose(self, reason: str, *, detail: str = "") -> None:
        with self._lock:
            self._dropped[reason] += 1
            if detail:
                self._details[reason] = detail

    def detail(self, reason: str) -> str:
        """What was said of the last loss for `reason`."""
        with self._lock:
            return self._details.get(reason, "")

    def deliver(self) -> None:
        self._delivered += 1

    def expose(self, event: Event) -> None:
        """Count the arms that decided the answer in `event`."""
        if not isinstance(event, RecommendationServed):
            return
        for assignment in event.assignments:
            if assignment.exposed and assignment.experiment_id is not None and assignment.arm is not None:
                self._exposed[assignment.experiment_id, assignment.arm] += 1

    def summary(self, accepted: int) -> TopicSummary:
        with self._lock:
            return TopicSummary(self.topic, accepted, self._delivered, dict(self._dropped))

    def checkpoint(self, producer_id: ProducerId, now: Micros, next_seq: int, *, closed: bool) -> ProducerCheckpoint:
        counts = tuple(ArmCount(experiment, arm, count) for (experiment, arm), count in sorted(self._exposed.items()))
        return ProducerCheckpoint(
            producer_id=producer_id,
            topic=self.topic,
            occurred_at=now,
            next_seq=next_seq,
            spooled=0,
            dropped=self.summary(next_seq).dropped,
            counts=counts,
            closed=closed,
        )
