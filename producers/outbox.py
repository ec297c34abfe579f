"""The bounded queue between the threads that emit and the courier that sends.

Guarantees: `put` neither waits for anybody nor does work that grows with the event; numbers follow the order of the queue; an
event that finds the queue full is counted and uses no number.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from producers.accounts import Account, TopicSummary
from producers.errors import Loss
from producers.identity import Identity, Lane
from schemas.events import Event, EventId, Interaction, ProducerId, RecommendationServed, ShadowRanking, Stamp
from schemas.topics import INTERACTIONS, RECOMMENDATIONS, SHADOW_RANKINGS, Topic

EVENT_TYPES: tuple[tuple[type[Event], Topic], ...] = (
    (RecommendationServed, RECOMMENDATIONS),
    (Interaction, INTERACTIONS),
    (ShadowRanking, SHADOW_RANKINGS),
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where events of one type go, and who counts them."""

    lane: Lane
    account: Account


class Numbered(NamedTuple):
    """A queued event. A tuple, since making a frozen dataclass costs the caller three times as much."""

    route: Route
    event: Event
    event_id: EventId
    seq: int

    def stamp(self, producer_id: ProducerId) -> Stamp:
        return Stamp(self.event_id, producer_id, self.seq)


class Outbox:
    """`_lock` guards the lanes, the right end of `_waiting` and `_closed`. The left end is the courier's alone."""

    def __init__(self, identity: Identity, events_max: int, new_event_id: Callable[[], EventId]) -> None:
        self._routes: dict[type[object], Route] = {
            kind: Route(identity.lanes[topic.record], Account(topic.name)) for kind, topic in EVENT_TYPES
        }
        self.producer_id = identity.producer_id
        self.routes = tuple(self._routes.values())
        self.events_max = events_max
        self.strays = Account("")
        """Losses that belong to no topic."""
        self._new_event_id = new_event_id
        self._waiting: deque[Numbered] = deque()
        self._lock = threading.Lock()
        self._closed: Loss | None = None
        """For what reason events are refused."""
        self._room = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> bool:
        """Number `event` and queue it. False where it is lost, for a reason that is counted."""
        route = self._routes.get(type(event))
        if route is None:
            self.strays.lose(Loss.WRONG_EVENT, detail=type(event).__name__)
            return False
        event_id = event.event_id or self._new_event_id()
        lane = route.lane
        with self._lock:
            lane.emitted += 1
            if self._closed is None and len(self._waiting) < self.events_max:
                seq = lane.next_seq
                lane.next_seq = seq + 1
                self._waiting.append(Numbered(route, event, event_id, seq))
                return True
            lane.refused[self._closed or Loss.QUEUE_FULL] += 1
        return False

    def summary(self, route: Route) -> TopicSummary:
        """The courier's side is read first: what comes in between then shows as queued."""
        passage = route.account.passage()
        with self._lock:
            intake = route.lane.intake()
        return passage.summary(intake)

    def take(self, events_max: int) -> list[Numbered]:
        """Up to `events_max` of the oldest events, out of the queue."""
        waiting = self._waiting
        taken = [waiting.popleft() for _ in range(min(events_max, len(waiting)))]
        if taken:
            with self._room:
                self._room.notify_all()
        return taken

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until half of the queue is free; False where it is not within `timeout_s`."""
        with self._room:
            return self._room.wait_for(lambda: self.closed or len(self._waiting) * 2 <= self.events_max, timeout_s)

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def close(self, reason: Loss) -> None:
        """Take nothing more; what comes is lost for `reason`, the first one given."""
        with self._lock:
            self._closed = self._closed or reason
        with self._room:
            self._room.notify_all()
