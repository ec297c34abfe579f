"""What has been fetched of one partition and is not in the warehouse yet, and when it is due. Pure: the time comes in."""

from dataclasses import dataclass

from stream_processors.warehouse.records import Message


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch is due as soon as it reaches any of these."""

    rows: int
    bytes: int
    age_s: float


class Batch:
    """Records of one partition in offset order. `end` is the offset that a commit after them may name."""

    __slots__ = ("_bytes", "_opened_at_s", "end", "messages")

    def __init__(self, end: int) -> None:
        self.messages: list[Message] = []
        self.end = end
        self._bytes = 0
        self._opened_at_s: float | None = None

    def add(self, message: Message, now_s: float) -> None:
        self.messages.append(message)
        self._bytes += len(message.value() or b"")
        self.reach(message.offset() + 1, now_s)

    def reach(self, end: int, now_s: float) -> None:
        """All offsets below `end` are here or hold no record (transaction markers, compaction)."""
        if self._opened_at_s is None and end > self.end:
            self._opened_at_s = now_s
        self.end = max(self.end, end)

    def due(self, limits: BatchLimits, now_s: float) -> bool:
        if self._opened_at_s is None:
            return False
        full = len(self.messages) >= limits.rows or self._bytes >= limits.bytes
        return full or now_s - self._opened_at_s >= limits.age_s
