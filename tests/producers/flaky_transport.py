"""A transport in memory whose records can fail."""

import threading

from producers.memory_transport import MemoryTransport
from producers.transport import INTERRUPTED, OutboundRecord, Outcomes


class FlakyTransport(MemoryTransport):
    """Fails what it holds when it is told to, as a client does whose message's time is over, or one that has broken down."""

    def __init__(self, *, reachable: bool = True, records_max: int = 100_000) -> None:
        super().__init__(reachable=reachable, records_max=records_max)
        self._failing, self._broken = threading.Event(), threading.Event()
        self._renewals = 0

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
        return super().poll(timeout_s)

    def _take(self, record: OutboundRecord, *, together: bool) -> bool:
        return not self._broken.is_set() and super()._take(record, together=together)
