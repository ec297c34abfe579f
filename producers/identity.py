"""Who emits: one incarnation of one emitter, and how many events it has numbered in each topic.

Numbers run 0, 1, 2 … without gaps within a producer_id and topic. Not thread-safe: the outbox numbers under its own lock.
"""

from schemas.events import ProducerId
from schemas.topics import Topic


class Lane:
    """The numbering of one topic. `next_seq` is the first number that is not yet used."""

    __slots__ = ("next_seq", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.next_seq = 0


class Identity:
    """A producer_id is never used again: a restarted process, or a second emitter, has another."""

    def __init__(self, producer_id: ProducerId, topics: tuple[Topic, ...]) -> None:
        self.producer_id = producer_id
        self.lanes = {topic.record: Lane(topic) for topic in topics}
