"""Who emits: one incarnation of one emitter, and how many events it has taken and numbered in each topic.

Numbers run 0, 1, 2 … without gaps within a producer_id and topic. Not thread-safe: the outbox numbers under its own lock.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.events import ProducerId
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Intake:
    """A lane at one moment: every event that came in was numbered, or refused for a reason."""

    emitted: int
    numbered: int
    refused: Mapping[str, int]


class Lane:
    """The numbering of one topic. `next_seq` is the first number that is not yet used."""

    __slots__ = ("emitted", "next_seq", "refused", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.emitted = self.next_seq = 0
        self.refused: Counter[str] = Counter()

    def intake(self) -> Intake:
        return Intake(self.emitted, self.next_seq, dict(self.refused))


class Identity:
    """A producer_id is never used again: a restarted process, a forked one, or a second emitter, has another."""

    def __init__(self, producer_id: ProducerId, topics: tuple[Topic, ...]) -> None:
        self.producer_id = producer_id
        self.lanes = {topic.record: Lane(topic) for topic in topics}
