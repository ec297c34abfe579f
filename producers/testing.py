"""For the tests of those who emit: an emitter that only remembers. Its transport in memory is `producers.memory_transport`."""

from producers.accounts import TopicSummary
from producers.courier import CourierCounters
from producers.emitter import Emitter, EmitterStatus
from producers.identity import Lane
from producers.outbox import EVENT_TYPES
from producers.spooling import DispatchCounters
from schemas.events import Event, ProducerId


class StubEmitter(Emitter):
    """Stands where an Emitter does; `events` are those that were emitted, in order. It has no thread and needs nothing.

    With `takes=False` every event is lost, as with a queue that is full.
    """

    def __init__(self, *, takes: bool = True) -> None:
        self.events: list[Event] = []
        self.takes, self.closed = takes, False
        self._lanes = {kind: Lane(topic) for kind, topic in EVENT_TYPES}

    @property
    def producer_id(self) -> ProducerId:
        return ProducerId("00000000-0000-7000-8000-000000000000")

    def emit(self, event: Event) -> bool:
        lane = self._lanes[type(event)]
        lane.emitted += 1
        if not self.takes or self.closed:
            lane.refused["closed" if self.closed else "queue_full"] += 1
            return False
        lane.next_seq += 1
        self.events.append(event)
        return True

    def wait_for_room(self, timeout_s: float) -> bool:  # noqa: ARG002 - there is room, or there never is
        return self.takes

    def status(self) -> EmitterStatus:
        return EmitterStatus(
            producer_id=self.producer_id,
            topics=tuple(_summary(lane) for lane in self._lanes.values()),
            strays={},
            queue_events=0,
            queue_events_max=len(self.events),
            counters=CourierCounters(),
            dispatched=DispatchCounters(),
            lookup_failures=0,
            spool=None,
            alive=not self.closed,
        )

    def close(self, timeout_s: float) -> EmitterStatus:  # noqa: ARG002 - nothing is left to send
        self.closed = True
        return self.status()


def _summary(lane: Lane) -> TopicSummary:
    return TopicSummary(lane.topic.name, lane.emitted, lane.next_seq, lane.next_seq, 0, 0, dict(lane.refused))
