"""What has been fetched of one partition and is not in the warehouse yet, and when it is due. Pure: the time comes in."""

from collections.abc import Sequence
from dataclasses import dataclass

from stream_processors.warehouse.records import Message

MESSAGE_BYTES = 350
"""What a consumed record takes in memory besides its value: the object, key, topic. Measured, with a short key and no headers."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large and how old a batch may grow, and how much may be in hand at once over all partitions.

    How old it does grow between the two ages is a question of what inserts cost (pacing.py).
    """

    rows: int
    bytes: int
    age_s_min: float
    age_s_max: float
    bytes_in_hand: int


class Batch:
    """Records of one partition in offset order. `end` is the offset that a commit after them may name."""

    __slots__ = ("bytes", "end", "messages", "opened_s")

    def __init__(self, end: int) -> None:
        self.messages: list[Message] = []
        self.end = end
        self.bytes = 0
        self.opened_s: float | None = None
        """When the first of it came; None while there is nothing to deliver or to commit."""

    def extend(self, messages: Sequence[Message], now_s: float) -> None:
        self.messages += messages
        self.bytes += sum(map(len, messages)) + MESSAGE_BYTES * len(messages)
        self.reach(messages[-1].offset() + 1, now_s)

    def reach(self, end: int, now_s: float) -> None:
        """All offsets below `end` are here or hold no record (transaction markers, compaction)."""
        if self.opened_s is None and end > self.end:
            self.opened_s = now_s
        self.end = max(self.end, end)

    def full(self, limits: BatchLimits) -> bool:
        return len(self.messages) >= limits.rows or self.bytes >= limits.bytes

    def aged(self, age_s: float, now_s: float) -> bool:
        return self.opened_s is not None and now_s - self.opened_s >= age_s

    def oldest_ms(self) -> int | None:
        """Kafka's time of the first record, in milliseconds."""
        return self.messages[0].timestamp()[1] if self.messages else None

    def first_offset(self) -> int | None:
        return self.messages[0].offset() if self.messages else None
