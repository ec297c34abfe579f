"""Owning a partition of a run: what differs from the live stream. The run's own table says what is in, and nothing else does.

So a run keeps no progress of its own: killed at any moment, it goes on from what the warehouse has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from schemas.errors import PartUnreachable
from stream_processors.replay.errors import Gone
from stream_processors.replay.log_reader import LogReader
from stream_processors.replay.present import present
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import BrokerTrouble
from stream_processors.warehouse.ownership import Found
from stream_processors.warehouse.records import OffsetRanges, Ownership, Place


@dataclass(frozen=True, slots=True)
class RunKeeper:
    """Raises Retryable where the world stands in the way, Gone where Kafka no longer has what is to be read."""

    reader: LogReader
    writer: ClickHouseWriter
    run: str
    topic_id: UUID
    stretches: Mapping[Place, tuple[int, int]]
    """[first, end) of each partition that is read from Kafka."""

    def identify(self, topic: str) -> UUID:
        """The id that the run was planned with: its coordinates are of no other topic."""
        try:
            found = self.reader.topic_id()
        except PartUnreachable as trouble:
            raise BrokerTrouble(str(trouble)) from trouble
        if found != self.topic_id:
            raise Gone(f"{topic} is not the topic that was planned for: it was deleted, or made anew")
        return self.topic_id

    def reconcile(self, topic_id: UUID, owner: bytes, place: Place, table: str) -> tuple[Ownership, Found]:
        """Where to go on: at the first offset that is in neither the table nor the dead letters."""
        first, end = self.stretches[place]
        here = present(self.writer, self.run, table, topic_id, place.partition).ranges
        start = next((gap_first for gap_first, _ in here.missing(first, end)), end)
        if start < end:
            self._refuse_expired(place, start)
        accounted = OffsetRanges([(0, start), *here])
        return Ownership(place, topic_id, owner, start, accounted), Found(here.count(), [], [])

    def announce(self, ownership: Ownership, found: Found) -> None:
        """A run's dead letters stay in their table, and gaps stand in its manifest."""

    def _refuse_expired(self, place: Place, start: int) -> None:
        try:
            log_start = self.reader.starts([place.partition])[place.partition]
        except PartUnreachable as trouble:
            raise BrokerTrouble(str(trouble)) from trouble
        if log_start > start:
            raise Gone(f"{place}: Kafka's log begins at {log_start} by now, and {start} is still to be read: plan another run")
