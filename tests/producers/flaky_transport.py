"""A transport in memory whose records can fail."""

import threading

from producers.memory_transport import MemoryTransport
from producers.transport import Outcomes


class FlakyTransport(MemoryTransport):
    """Fails what it holds when it is told to, as a client does whose message's time is over."""

    def __init__(self, *, reachable: bool = True, records_max: int = 100_000) -> None:
        super().__init__(reachable=reachable, records_max=records_max)
        self._failing = threading.Event()

    def fail_pending(self) -> None:
        self._failing.set()

    def poll(self, timeout_s: float) -> Outcomes:
        if self._failing.is_set():
            self._failing.clear()
            self.abandon()
            return Outcomes([], [(record, "msg_timed_out") for record, _ in super().poll(timeout_s).failed])
        return super().poll(timeout_s)
