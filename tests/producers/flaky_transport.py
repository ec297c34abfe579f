"""A transport in memory whose records can fail."""

import threading
from collections import deque

from producers.errors import TopicRefused
from producers.memory_transport import MemoryTransport
from producers.transport import INTERRUPTED, OutboundRecord, Outcomes


class FlakyTransport(MemoryTransport):
    """Fails what it holds when it is told to, as a client does whose message's time is over, or one that has broken down."""

    def __init__(self, *, reachable: bool = True, records_max: int = 100_000) -> None:
        super().__init__(reachable=reachable, records_max=records_max)
        self._failing, self._broken = threading.Event(), threading.Event()
        self._renewals = 0
        self.refused: set[str] = set()
        """Topics of which nothing is taken."""
        self.failing: dict[str, str] = {}
        """Topics of which all fails that was taken, and why."""

    def fail_pending(self) -> None:
        self._failing.set()

    def break_down(self) -> None:
        self._broken.set()

    def renewals(self) -> int:
        return self._renewals

    def troubled(self) -> bool:
        return self._broken.is_set()

    def poll(self, timeout_s: float) -> Outcomes:
        if self._broken.is_set():
            self.abandon()
            told = Outcomes([], [(record, INTERRUPTED) for record, _ in super().poll(0.0).failed])
            self._renewals += 1
            self._broken.clear()
            return told
        if self._failing.is_set():
            self._failing.clear()
            self.abandon()
            return Outcomes([], [(record, "msg_timed_out") for record, _ in super().poll(timeout_s).failed])
        failed = self._failed()
        outcomes = super().poll(0.0 if failed else timeout_s)
        return outcomes._replace(failed=[*outcomes.failed, *failed])

    def _failed(self) -> list[tuple[OutboundRecord, str]]:
        failing, pending = dict(self.failing), list(self._pending)
        failed = [each for each in pending if each[0].topic in failing]
        self._pending = deque(each for each in pending if each[0].topic not in failing)
        return [(record._replace(headers=()) if together else record, failing[record.topic]) for record, together in failed]

    def _take(self, record: OutboundRecord, *, together: bool) -> bool:
        if record.topic in self.refused:
            raise TopicRefused("unknown_topic", "for a test")
        return not self._broken.is_set() and super()._take(record, together=together)
