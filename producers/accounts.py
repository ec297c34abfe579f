"""What became of the events of one topic, and the checkpoint that says so.

The books close at every moment: emitted = acknowledged + queued + spooled + dropped. The callers' side of it (emitted, numbered,
refused) is counted in the lane, under the outbox's lock; the courier's side (what has left the queue, and whereto) here. Each
step is booked as one, so that a summary, which reads this side first, never sees half of it.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from producers.identity import Intake
from schemas.events import ArmCount, Event, ExperimentId, Micros, ProducerCheckpoint, ProducerId, RecommendationServed


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """`emitted` events came in, `accepted` ones of them have a producer_seq, `acknowledged` ones the broker's word.

    `queued` are in memory, the client's too; `spooled` are on disk and not acknowledged; `dropped` counts losses by reason.
    """

    topic: str
    emitted: int
    accepted: int
    acknowledged: int
    queued: int
    spooled: int
    dropped: Mapping[str, int]

    @property
    def undelivered(self) -> int:
        """Accepted, and not acknowledged so far."""
        return self.accepted - self.acknowledged


@dataclass(frozen=True, slots=True)
class Passage:
    """The courier's side at one moment: `left` have left the queue, to one of the others."""

    topic: str
    left: int
    acknowledged: int
    spooled: int
    dropped: Mapping[str, int]

    def summary(self, intake: Intake) -> TopicSummary:
        """With the callers' side, read later: what came in between is queued."""
        dropped = Counter(self.dropped)
        dropped.update(intake.refused)
        return TopicSummary(
            topic=self.topic,
            emitted=intake.emitted,
            accepted=intake.numbered,
            acknowledged=self.acknowledged,
            queued=intake.numbered - self.left,
            spooled=self.spooled,
            dropped=dict(dropped),
        )


class Account:
    """The courier's side of one topic's books. `_lock` guards all of it; only `lose` may be called from other threads."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._left = self._acknowledged = self._spooled = 0
        self._dropped: Counter[str] = Counter()
        self._details: dict[str, str] = {}
        self._exposed: Counter[tuple[ExperimentId, str]] = Counter()
        self._lock = threading.Lock()

    def acknowledge(self, events: int = 1, *, spooled: bool) -> None:
        """The broker has so many more; `spooled` says whether they were on disk or in memory."""
        with self._lock:
            self._leave(events, spooled=spooled)
            self._acknowledged += events

    def store(self) -> None:
        """One more is on disk instead of in memory."""
        with self._lock:
            self._left += 1
            self._spooled += 1

    def lose(self, reason: str, events: int = 1, *, spooled: bool = False, detail: str = "") -> None:
        with self._lock:
            self._leave(events, spooled=spooled)
            self._dropped[reason] += events
            if detail:
                self._details[reason] = detail

    def detail(self, reason: str) -> str:
        """What was said of the last loss for `reason`."""
        with self._lock:
            return self._details.get(reason, "")

    def expose(self, event: Event) -> None:
        """Count the arms that decided the answer in `event`."""
        if not isinstance(event, RecommendationServed):
            return
        for assignment in event.assignments:
            if assignment.exposed and assignment.experiment_id is not None and assignment.arm is not None:
                self._exposed[assignment.experiment_id, assignment.arm] += 1

    def dropped(self) -> dict[str, int]:
        with self._lock:
            return dict(self._dropped)

    def passage(self) -> Passage:
        with self._lock:
            return Passage(self.topic, self._left, self._acknowledged, self._spooled, dict(self._dropped))

    def counts(self) -> tuple[ArmCount, ...]:
        return tuple(ArmCount(experiment, arm, count) for (experiment, arm), count in sorted(self._exposed.items()))

    def _leave(self, events: int, *, spooled: bool) -> None:
        if spooled:
            self._spooled -= events
        else:
            self._left += events


def checkpoint_of(
    summary: TopicSummary, counts: tuple[ArmCount, ...], producer_id: ProducerId, now: Micros, *, closed: bool
) -> ProducerCheckpoint:
    return ProducerCheckpoint(
        producer_id=producer_id,
        topic=summary.topic,
        occurred_at=now,
        next_seq=summary.accepted,
        emitted=summary.emitted,
        acknowledged=summary.acknowledged,
        queued=summary.queued,
        spooled=summary.spooled,
        dropped=summary.dropped,
        counts=counts,
        closed=closed,
    )
