"""A transport into a list, for tests and dry runs. Keeps the same contract as Kafka's; one test suite runs on both."""

import time
from collections import deque

from producers.errors import RecordRefused
from producers.transport import OutboundRecord, Outcomes

RECORD_BYTES_MAX = 1_000_000


class MemoryTransport:
    """`records` are the acknowledged ones. While `reachable` is False, records pile up, as before a broker that is away.

    It has room for `records_max` at a time.
    """

    def __init__(self, *, records_max: int = 100_000, reachable: bool = True) -> None:
        self.records: list[OutboundRecord] = []
        self.reachable = reachable
        self.records_max = records_max
        self._pending: deque[OutboundRecord] = deque()
        self._abandoned: list[tuple[OutboundRecord, str]] = []

    def offer(self, record: OutboundRecord) -> bool:
        if len(record.value) > RECORD_BYTES_MAX:
            raise RecordRefused("msg_size_too_large", f"{len(record.value)} bytes are more than {RECORD_BYTES_MAX}")
        if self.in_flight() >= self.records_max:
            return False
        self._pending.append(record)
        return True

    def poll(self, timeout_s: float) -> Outcomes:
        failed, self._abandoned = self._abandoned, []
        delivered = list(self._pending) if self.reachable else []
        if delivered:
            self._pending.clear()
            self.records.extend(delivered)
        elif not failed:
            time.sleep(timeout_s)
        return Outcomes(delivered, failed)

    def in_flight(self) -> int:
        return len(self._pending) + len(self._abandoned)

    def troubled(self) -> bool:
        """Never: where nothing is reachable, records pile up and nobody says so, as before a broker that hangs."""
        return False

    def abandon(self) -> None:
        self._abandoned.extend((record, "purge_queue") for record in self._pending)
        self._pending.clear()

    def close(self) -> None:
        self._pending.clear()
