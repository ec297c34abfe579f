"""What a replay asks of an archive of a topic (stream_processors/archive has the real one)."""

from collections.abc import Iterator, Sequence
from typing import Protocol
from uuid import UUID

from stream_processors.replay.manifest import Manifest
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import Message, Ownership


class Archive(Protocol):
    """Raises PartUnreachable where its store does not answer, Retryable where the warehouse does not take what it sends."""

    @property
    def url(self) -> str:
        """Where it is, as it may be shown."""

    def ranges(self, topic_id: UUID, partition: int) -> Sequence[tuple[int, int]]:
        """The archived [first, end), in order and apart; transaction markers within count as archived."""

    def offset_at(self, topic_id: UUID, partition: int, time_ms: int) -> int | None:
        """The first archived offset that Kafka took at that time or later."""

    def insert(self, writer: ClickHouseWriter, manifest: Manifest, ownership: Ownership, end: int) -> int:
        """Bring the archived records of [ownership.start, end) into the run's tables, without those in `ownership.present`.

        One insert at a time, none sent twice, rows and dead letters; returns how many went in. Returns when all are in, and
        leaves by an exception after any answer that is not clean: then the caller owns anew, and calls again with what is in by
        then.
        """

    def messages(self, topic_id: UUID, partition: int, first: int, end: int) -> Iterator[Message]:
        """The archived records of [first, end), in order."""
