"""Gaps: offsets that Kafka had, that the warehouse has not, and that never will come. Found in a reconciliation, and recorded.

A topic that was deleted takes the group's offsets with it. So the warehouse itself keeps which topic ids have gone by a topic's
name (`ingest_topics`, as soon as a sink sees one): one that no longer does, and has no gap yet in a partition, has ended there
where its rows end, as far as anybody can know.
"""

import json
from collections.abc import Iterable, Mapping
from uuid import UUID

from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import Gap, GapReason, OffsetRanges, Place

_KNOWN = """
SELECT DISTINCT _topic_id FROM ingest_topics
WHERE topic = {topic:String} AND _topic_id NOT IN (
    SELECT _topic_id FROM ingest_gaps
    WHERE topic = {topic:String} AND _partition = {partition:Int32} AND reason = 'recreated'
)
FORMAT TabSeparated
"""
_END = """
SELECT max(_offset) + 1
FROM (
    SELECT _topic_id, _partition, _offset FROM %(table)s
    UNION ALL
    SELECT _topic_id, _partition, _offset FROM dead_letters
)
WHERE _topic_id = {topic_id:UUID} AND _partition = {partition:Int32}
HAVING count() > 0
FORMAT TabSeparated
"""
_REMEMBER = "INSERT INTO ingest_topics (topic, _topic_id) FORMAT JSONEachRow"
_RECORD = "INSERT INTO ingest_gaps (topic, _topic_id, _partition, reason, first_offset, end_offset, detail) FORMAT JSONEachRow"
_DETAILS = {
    GapReason.EXPIRED: "older than the log's retention before they were read; transaction markers among them cannot be told",
    GapReason.RECREATED: "the topic was deleted and made anew: what it held from here on and was not read is gone",
    GapReason.TRUNCATED: "the log ended before what had been read of it: new records at these offsets are not brought in",
}


def find_gaps(topic_id: UUID, reached: int, present: OffsetRanges, first: int, end: int) -> list[Gap]:
    """What Kafka will not give us any more, and is not accounted for.

    The group has read up to `reached`, and the log now goes from `first` to `end`. Transaction markers below `first` cannot be
    told from records any more: an expired gap may hold some.
    """
    if reached > end:
        return [Gap(topic_id, GapReason.TRUNCATED, end, reached)]
    return [Gap(topic_id, GapReason.EXPIRED, *gap) for gap in present.missing(reached, first)]


def topic_ids(writer: ClickHouseWriter, place: Place) -> set[UUID]:
    """Topics that have gone by the name of `place`, but for those whose end is recorded."""
    answer = writer.query(_KNOWN, {"topic": place.topic, "partition": str(place.partition)})
    return {UUID(line) for line in answer.decode().split()}


def recreated(writer: ClickHouseWriter, place: Place, table: str, former: Iterable[UUID]) -> list[Gap]:
    """The ends of topics that no longer go by the name of `place`. Reads the whole of the table's coordinates, once a topic."""
    return [Gap(topic_id, GapReason.RECREATED, _end(writer, place, table, topic_id), None) for topic_id in former]


def _end(writer: ClickHouseWriter, place: Place, table: str, topic_id: UUID) -> int:
    """The offset after the last record of a topic's partition that is here."""
    coordinates = {"topic_id": str(topic_id), "partition": str(place.partition)}
    return int(writer.query(_END % {"table": table}, coordinates) or 0)


def remember(writer: ClickHouseWriter, topic: str, topic_id: UUID) -> None:
    """Keep that this topic goes by the name."""
    row = {"topic": topic, "_topic_id": str(topic_id)}
    writer.command(_REMEMBER, "tailrace topics", json.dumps(row).encode())


def record(writer: ClickHouseWriter, place: Place, gaps: Iterable[Gap]) -> None:
    """Write gaps down; the same one twice is one."""
    rows = [json.dumps(_row(place, gap)) for gap in gaps]
    if rows:
        writer.command(_RECORD, "tailrace gaps", "\n".join(rows).encode())


def _row(place: Place, gap: Gap) -> Mapping[str, str | int | None]:
    return {
        "topic": place.topic,
        "_topic_id": str(gap.topic_id),
        "_partition": place.partition,
        "reason": gap.reason,
        "first_offset": gap.first,
        "end_offset": gap.end,
        "detail": _DETAILS[gap.reason],
    }
