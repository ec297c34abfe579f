"""A transport in memory whose records can fail."""

import threading

from producers.memory_transport import MemoryTransport
from producers.transport import Outcome


class FlakyTransport(MemoryTransport):
    """Fails what it holds when it is told to, as a client does whose message's time is over."""

    def __init__(self, *, reachable: bool = True, records_max: int = 100_000) -> None:
        super().__init__(reachable=reachable, records_max=records_max)
        self._failing = threading.Event()

    def fail_pending(self) -> None:
        self._failing.set()

    def poll(self, timeout_s: float) -> tuple[Outcome, ...]:
        if self._failing.is_set():
            self._failing.clear()
            self.abandon()
            return tuple(Outcome(outcome.record, "msg_timed_out") for outcome in super().poll(timeout_s))
        return super().poll(timeout_s)
