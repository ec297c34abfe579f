"""A transport into a list, for tests and dry runs. Keeps the same contract as Kafka's; one test suite runs on both."""

import time
from collections import Counter, deque
from collections.abc import Hashable, Sequence

from producers.errors import RecordRefused, Refusal
from producers.transport import Headers, Keyed, OutboundRecord, Outcomes

RECORD_BYTES_MAX = 1_000_000


class MemoryTransport:
    """`records` are the acknowledged ones. While `reachable` is False, records pile up, as before a broker that is away.

    It has room for `records_max` at a time.
    """

    def __init__(self, *, records_max: int = 100_000, reachable: bool = True) -> None:
        self.records: list[OutboundRecord] = []
        self.reachable = reachable
        self.records_max = records_max
        self._pending: deque[tuple[OutboundRecord, bool]] = deque()
        """And whether it was offered together with others."""
        self._abandoned: list[tuple[OutboundRecord, str]] = []

    def offer(self, record: OutboundRecord) -> bool:
        return self._take(record, together=False)

    def offer_together(self, records: Sequence[Keyed], headers: Headers, ticket: Hashable) -> int:
        taken = 0
        try:
            while taken < len(records) and self._take(OutboundRecord(*records[taken], headers, ticket), together=True):
                taken += 1
        except Refusal:
            if not taken:
                raise
        return taken

    def poll(self, timeout_s: float) -> Outcomes:
        failed, self._abandoned = self._abandoned, []
        delivered = list(self._pending) if self.reachable else []
        if delivered:
            self._pending.clear()
            self.records.extend(record for record, _ in delivered)
        elif not failed:
            time.sleep(timeout_s)
        alone = [record for record, together in delivered if not together]
        return Outcomes(alone, failed, Counter(record.ticket for record, together in delivered if together))

    def in_flight(self) -> int:
        return len(self._pending) + len(self._abandoned)

    def troubled(self) -> bool:
        """Never: where nothing is reachable, records pile up and nobody says so, as before a broker that hangs."""
        return False

    def renewals(self) -> int:
        """Never: a list does not break down."""
        return 0

    def abandon(self) -> None:
        for record, together in self._pending:
            self._abandoned.append((record._replace(headers=()) if together else record, "purge_queue"))
        self._pending.clear()

    def close(self) -> None:
        self._pending.clear()

    def _take(self, record: OutboundRecord, *, together: bool) -> bool:
        if len(record.value) > RECORD_BYTES_MAX:
            raise RecordRefused("msg_size_too_large", f"{len(record.value)} bytes are more than {RECORD_BYTES_MAX}")
        if self.in_flight() >= self.records_max:
            return False
        self._pending.append((record, together))
        return True
