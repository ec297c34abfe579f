"""Owning a partition: fence, drain, reconcile. The one way in which writing to a partition ever begins, or begins again.

1. Fence: a fresh random owner in `ingest_fence` shuts out every earlier writer, paused, zombie or late, without any clock.
2. Drain: inserts of this partition that run in the warehouse at that moment are waited for, and killed past a limit.
3. Reconcile: the group's committed offset, and which coordinates from there on the warehouse accounts for: rows, dead letters,
   recorded gaps. What Kafka has let go of before it was read is recorded as a gap (gaps.py). Dead letters found are sent to
   their topic again: the process that wrote them may have died before it did.

What is known afterwards stays true as long as the fence holds our owner, for only its inserts are taken. protocol.py says in
which order this happens.
"""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letter_topic import DeadLetterTopic
from stream_processors.warehouse.dead_letters import LETTER_COLUMNS, letter_of
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.gaps import find_gaps, record, recreated, remember, topic_ids
from stream_processors.warehouse.kafka_source import KafkaSource
from stream_processors.warehouse.records import LIVE, Destination, Gap, OffsetRanges, Ownership, Place, Rejection

OWNER_BYTES = 16
DRAIN_PATIENCE_S = 5.0
"""Inserts that still run after this long are killed."""
DRAIN_LIMIT_S = 60.0
_DRAIN_POLL_S = 0.02

_RUNNING = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {comment:String} AND query_kind = 'Insert'"
_KILL = "KILL QUERY WHERE Settings['log_comment'] = '{comment}' AND query_kind = 'Insert' SYNC"
_PRESENT = """
SELECT min(_offset), max(_offset) + 1
FROM (
    SELECT _offset, _offset - row_number() OVER (ORDER BY _offset) AS island
    FROM (
        SELECT DISTINCT _offset
        FROM (
            SELECT _topic_id, _partition, _offset FROM {table}
            UNION ALL
            SELECT _topic_id, _partition, _offset FROM dead_letters
        )
        WHERE _topic_id = {{topic_id:UUID}} AND _partition = {{partition:Int32}} AND _offset >= {{first:Int64}}
    )
)
GROUP BY island
UNION ALL
SELECT first_offset, assumeNotNull(end_offset)
FROM ingest_gaps FINAL
WHERE _topic_id = {{topic_id:UUID}} AND _partition = {{partition:Int32}} AND end_offset > {{first:Int64}}
FORMAT TabSeparated
"""
_DEAD_LETTERS = f"""
SELECT _offset AS offset, toUnixTimestamp64Milli(_kafka_time) AS kafka_time_ms, _schema_id AS schema_id, {LETTER_COLUMNS}
FROM dead_letters
WHERE _topic_id = {{topic_id:UUID}} AND _partition = {{partition:Int32}} AND _offset >= {{first:Int64}}
FORMAT JSONEachRow
"""  # noqa: S608 - pieces of our own


class Found(NamedTuple):
    """What a reconciliation found besides where to go on: what is yet to be said to others."""

    present: int
    """How many offsets past the committed one are accounted for."""
    gaps: list[Gap]
    """Gaps that are new."""
    letters: list[Rejection]
    """Dead letters past the committed offset."""


@dataclass(frozen=True, slots=True)
class OwnershipKeeper:
    """The steps of owning, for one process. Raises Retryable where the world stands in the way: then nothing is owned."""

    source: KafkaSource
    writer: ClickHouseWriter
    dead_letters: DeadLetterTopic
    remembered: set[tuple[str, UUID]] = field(default_factory=set)
    """Names and ids of topics that this process has seen and written down."""

    def identify(self, topic: str) -> UUID:
        """The id of the topic of this name, which the warehouse remembers from here on."""
        topic_id = self.source.topic_id(topic)
        if (topic, topic_id) not in self.remembered:
            remember(self.writer, topic, topic_id)
            self.remembered.add((topic, topic_id))
        return topic_id

    def reconcile(self, topic_id: UUID, owner: bytes, place: Place, table: str) -> tuple[Ownership, Found]:
        """Where to go on, and what is accounted for from there; only after the fence and the drain."""
        committed = self.source.committed(place)
        first, end = self.source.bounds(place)
        reached = committed.offset if committed is not None and committed.topic_id == topic_id else 0
        coordinates = {"topic_id": str(topic_id), "partition": str(place.partition), "first": str(reached)}
        present = _ranges(self.writer.query(_PRESENT.format(table=table), coordinates))
        letters = _rejections(self.writer.query(_DEAD_LETTERS, coordinates))
        former = topic_ids(self.writer, place) - {topic_id}
        gaps = recreated(self.writer, place, table, former)
        gaps += find_gaps(topic_id, reached, present, first, end)
        start = max(first, reached)
        accounted = OffsetRanges([(0, start), *present])
        return Ownership(place, topic_id, owner, start, accounted), Found(present.count(), gaps, letters)

    def announce(self, ownership: Ownership, found: Found) -> None:
        """Write down what was found, and send the dead letters to their topic again."""
        record(self.writer, ownership.place, found.gaps)
        self.dead_letters.publish(ownership.topic_id, ownership.place, found.letters)


def fence(writer: ClickHouseWriter, topic_id: UUID, place: Place, into: Destination = LIVE) -> bytes:
    """Make a fresh owner the only one whose inserts are taken.

    Never the same owner twice, whatever the answer was: a late copy of an old write must not let anyone in.
    """
    owner = secrets.token_bytes(OWNER_BYTES)
    key = into.fence_key(topic_id, place.partition)
    statement = f"INSERT INTO {into.fence} (key, owner) VALUES (unhex('{key.hex()}'), unhex('{owner.hex()}'))"  # noqa: S608 - hex of our own
    writer.command(statement, "tailrace fence")
    return owner


def drain(writer: ClickHouseWriter, comment: str) -> None:
    """Wait for the inserts that run under `comment`. Raises Retryable past DRAIN_LIMIT_S."""
    started, killed = time.monotonic(), False
    while int(writer.query(_RUNNING, {"comment": comment}) or 0):
        waited_s = time.monotonic() - started
        if waited_s > DRAIN_LIMIT_S:
            raise Retryable(f"inserts of {comment} still run after {DRAIN_LIMIT_S:.0f} s")
        if waited_s > DRAIN_PATIENCE_S and not killed:
            writer.command(_KILL.format(comment=comment), "tailrace drain")
            killed = True
        time.sleep(_DRAIN_POLL_S)


def _ranges(answer: bytes) -> OffsetRanges:
    rows = [line.split("\t") for line in answer.decode().splitlines()]
    return OffsetRanges((int(first), int(end)) for first, end in rows)


def _rejections(answer: bytes) -> list[Rejection]:
    return [_rejection(json.loads(line)) for line in answer.splitlines()]


def _rejection(row: Mapping[str, Any]) -> Rejection:
    return Rejection(int(row["offset"]), int(row["kafka_time_ms"]), row["schema_id"], letter_of(row))
