"""The table of dead letters, read: what lies there, and which of it has been repaired. Nothing here writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from schemas.events import DeadLetter
from schemas.tables import TABLE_OF_RECORD
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.dead_letters import LETTER_COLUMNS, letter_of
from stream_processors.warehouse.records import Place

REPAIRED_RUN = "repaired"
"""The `_run` of a row that was a dead letter."""
PAGE_LETTERS_MAX = 500
"""Read at a time: letters hold whole records."""

_RAW_TABLES = [table for record, table in TABLE_OF_RECORD.items() if record != "DeadLetter"]
_REPAIRED = " UNION ALL ".join(
    f"SELECT _topic_id, _partition, _offset FROM {table} WHERE _run = '{REPAIRED_RUN}'"  # noqa: S608 - names of our own
    for table in _RAW_TABLES
)
_ABOUT = f"""
    _topic_id AS topic_id, _partition AS partition, _offset AS offset,
    toUnixTimestamp64Milli(_kafka_time) AS kafka_time_ms, _schema_id AS schema_id,
    toUnixTimestamp64Milli(_ingested_at) AS buried_at_ms,
    (_topic_id, _partition, _offset) IN ({_REPAIRED}) AS repaired
"""
_WHOLE = f"{_ABOUT}, {LETTER_COLUMNS}"
_CHOSEN = """
    ({topic:String} = '' OR topic = {topic:String} OR toString(_topic_id) = {topic:String})
    AND ({reason:String} = '' OR reason = {reason:String}) AND _kafka_time >= fromUnixTimestamp64Milli({since_ms:Int64})
"""
_NEWEST = f"""
SELECT {_ABOUT}, topic, reason, error, length(value) AS value_bytes
FROM dead_letters FINAL
WHERE {_CHOSEN}
ORDER BY _kafka_time DESC, topic, _partition, _offset DESC
LIMIT {{limit:UInt64}}
FORMAT JSONEachRow
"""  # noqa: S608 - pieces of our own
_PAGE = f"""
SELECT {_WHOLE}
FROM dead_letters FINAL
WHERE {_CHOSEN}
    AND (_topic_id, _partition, _offset) > ({{after_topic_id:UUID}}, {{after_partition:Int32}}, {{after_offset:Int64}})
ORDER BY _topic_id, _partition, _offset
LIMIT {{limit:UInt64}}
FORMAT JSONEachRow
"""  # noqa: S608 - pieces of our own
_AT = f"""
SELECT {_WHOLE}
FROM dead_letters FINAL
WHERE (topic = {{topic:String}} OR toString(_topic_id) = {{topic:String}}) AND _partition = {{partition:Int32}}
    AND _offset IN {{offsets:Array(Int64)}}
ORDER BY _topic_id, _offset
FORMAT JSONEachRow
"""  # noqa: S608 - pieces of our own


class Coordinates(NamedTuple):
    """Where a record stands in Kafka, as a person names it: the topic by its name or, where several had that name, by its id."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def from_text(cls, text: str) -> "Coordinates":
        """Of `topic:partition:offset`. Raises ValueError."""
        topic, partition, offset = text.rsplit(":", 2)
        return cls(topic, int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters; an empty word means any."""

    topic: str = ""
    reason: str = ""
    since_ms: int = 0
    """Of Kafka's clock, since 1970."""


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """A dead letter without its bytes."""

    topic_id: UUID
    place: Place
    offset: int
    kafka_time_ms: int
    schema_id: int
    reason: str
    error: str
    buried_at_ms: int
    repaired: bool

    @property
    def coordinates(self) -> Coordinates:
        return Coordinates(self.place.topic, self.place.partition, self.offset)


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter, whole."""

    summary: LetterSummary
    letter: DeadLetter


class DeadLetterStore:
    """Raises Retryable where the warehouse does not answer as it should."""

    def __init__(self, writer: ClickHouseWriter) -> None:
        self._writer = writer

    def newest(self, choice: Choice, limit: int) -> list[tuple[LetterSummary, int]]:
        """The newest dead letters with the length of each one's value, in bytes."""
        rows = self._rows(_NEWEST, {**_parameters(choice), "limit": str(limit)})
        return [(_summary(row), int(row["value_bytes"] or 0)) for row in rows]

    def pages(self, choice: Choice) -> Iterator[list[StoredLetter]]:
        """All of them, by topic, partition and offset."""
        after = (str(UUID(int=0)), 0, -1)
        while True:
            last = dict(zip(("after_topic_id", "after_partition", "after_offset"), map(str, after), strict=True))
            page = [_stored(row) for row in self._rows(_PAGE, {**_parameters(choice), **last, "limit": str(PAGE_LETTERS_MAX)})]
            if not page:
                return
            yield page
            found = page[-1].summary
            after = (str(found.topic_id), found.place.partition, found.offset)

    def at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[StoredLetter]:
        """Those at these coordinates: several at one where topics of one name followed each other."""
        listed = f"[{','.join(map(str, offsets))}]"
        return [_stored(row) for row in self._rows(_AT, {"topic": topic, "partition": str(partition), "offsets": listed})]

    def _rows(self, statement: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._writer.query(statement, parameters).splitlines()]


def _parameters(choice: Choice) -> dict[str, str]:
    return {"topic": choice.topic, "reason": choice.reason, "since_ms": str(choice.since_ms)}


def _summary(row: dict[str, Any]) -> LetterSummary:
    return LetterSummary(
        topic_id=UUID(row["topic_id"]),
        place=Place(row["topic"], row["partition"]),
        offset=int(row["offset"]),
        kafka_time_ms=int(row["kafka_time_ms"]),
        schema_id=row["schema_id"],
        reason=row["reason"],
        error=row["error"],
        buried_at_ms=int(row["buried_at_ms"]),
        repaired=bool(row["repaired"]),
    )


def _stored(row: dict[str, Any]) -> StoredLetter:
    return StoredLetter(_summary(row), letter_of(row))
