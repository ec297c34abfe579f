"""The auditor's SQL. Braces are ClickHouse's query parameters; `table` is one of the raw tables.

Base tables are counted without FINAL, by coordinates: the second line must not hide that it was needed. Counting goes by bitmaps,
one bit an offset or number, so that billions of records cost the engine some hundred megabytes.
"""

NOW = "SELECT toUnixTimestamp64Milli(now64(3))"

GAPS = """
SELECT _topic_id, _partition, reason, first_offset, end_offset, detail, toUnixTimestamp64Milli(recorded_at)
FROM ingest_gaps FINAL
WHERE topic = {topic:String}
ORDER BY _topic_id, _partition, first_offset
"""

BLOCKS = """
SELECT
    _topic_id, _partition, block, first, last,
    bitmapOrCardinality(bitmapOr(live, repaired), letters) AS present,
    row_count,
    row_count - bitmapOrCardinality(live, repaired) + letter_count - bitmapCardinality(letters) AS copies,
    bitmapCardinality(letters),
    bitmapAndCardinality(letters, repaired),
    bitmapAndCardinality(letters, live),
    first_ms, last_ms
FROM
(
    SELECT
        _topic_id, _partition, intDiv(_offset, {block_offsets:UInt32}) AS block, min(_offset) AS first, max(_offset) AS last,
        countIf(kind != 'letter') AS row_count, countIf(kind = 'letter') AS letter_count,
        groupBitmapStateIf(toUInt32(_offset % {block_offsets:UInt32}), kind = 'live') AS live,
        groupBitmapStateIf(toUInt32(_offset % {block_offsets:UInt32}), kind = 'repaired') AS repaired,
        groupBitmapStateIf(toUInt32(_offset % {block_offsets:UInt32}), kind = 'letter') AS letters,
        toUnixTimestamp64Milli(min(_kafka_time)) AS first_ms, toUnixTimestamp64Milli(max(_kafka_time)) AS last_ms
    FROM
    (
        SELECT _topic_id, _partition, _offset, _kafka_time, if(_run = 'repaired', 'repaired', 'live') AS kind
        FROM {table:Identifier}
        UNION ALL
        SELECT _topic_id, _partition, _offset, _kafka_time, 'letter' FROM dead_letters WHERE topic = {topic:String}
    )
    GROUP BY _topic_id, _partition, block
)
ORDER BY _topic_id, _partition, block
"""
"""A row a block of offsets, of every topic id that the table has seen."""

ABSENT_OFFSETS = """
SELECT previous_end, _offset
FROM
(
    SELECT
        _offset,
        lagInFrame(_offset + 1, 1, {first:Int64}) OVER (ORDER BY _offset ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous_end
    FROM
    (
        SELECT DISTINCT _offset
        FROM
        (
            SELECT _topic_id, _partition, _offset, _kafka_time FROM {table:Identifier}
            UNION ALL
            SELECT _topic_id, _partition, _offset, _kafka_time FROM dead_letters
        )
        WHERE _topic_id = {topic_id:UUID} AND _partition = {partition:Int32}
            AND _offset BETWEEN {first:Int64} AND {last:Int64}
            AND _kafka_time BETWEEN fromUnixTimestamp64Milli({first_ms:Int64}) AND fromUnixTimestamp64Milli({last_ms:Int64})
    )
)
WHERE _offset > previous_end
ORDER BY _offset
"""
"""The times only prune the days that are read."""

_TOLD = """
SELECT
    producer_id, next_seq,
    toUnixTimestamp64Micro(max(occurred_at)) AS at_us,
    toUnixTimestamp64Milli(min(_kafka_time)) AS first_heard_ms,
    toUnixTimestamp64Milli(max(_kafka_time)) AS heard_ms,
    argMax((dropped, queued, spooled), (occurred_at, _kafka_time, _offset)) AS said,
    max(closed) AS is_closed
FROM producer_checkpoints
WHERE topic = {topic:String}
    AND _ingested_at <= fromUnixTimestamp64Milli({asked_ms:Int64})
    AND _kafka_time < fromUnixTimestamp64Milli({settled_ms:Int64})
GROUP BY producer_id, next_seq
"""
"""The checkpoints of a topic, those with the same number as one: the last that was made, for one that had to wait on a disk comes
late. Only what was in Kafka when the audit began, and is settled."""

STREAMS = f"""
SELECT
    producer_id, row_count, seen, seen_end, first_event_ms, last_event_ms,
    checkpoints, next_seq, toJSONString(said.1), said.2, said.3, is_closed, at_us, heard_ms
FROM
(
    SELECT
        producer_id, count() AS row_count, groupBitmap(toUInt64(producer_seq)) AS seen, max(producer_seq) + 1 AS seen_end,
        toUnixTimestamp64Milli(min(_kafka_time)) AS first_event_ms, toUnixTimestamp64Milli(max(_kafka_time)) AS last_event_ms
    FROM {{table:Identifier}}
    WHERE producer_seq >= 0
    GROUP BY producer_id
) AS events
FULL OUTER JOIN
(
    SELECT
        producer_id, count() AS checkpoints, max(told.next_seq) AS next_seq, argMax(told.said, told.next_seq) AS said,
        max(told.is_closed) AS is_closed, max(told.at_us) AS at_us, max(told.heard_ms) AS heard_ms
    FROM ({_TOLD}) AS told
    GROUP BY producer_id
) AS checkpoints USING (producer_id)
ORDER BY producer_id
"""  # noqa: S608 - our own text

STEPS = f"""
WITH
    told AS
    (
        SELECT * FROM ({_TOLD})
        WHERE has({{producers:Array(UUID)}}, producer_id)
        ORDER BY next_seq DESC
        LIMIT {{checkpoints:UInt32}} BY producer_id
    ),
    arrived AS
    (
        SELECT
            event.producer_id AS producer_id,
            if(checkpoint.next_seq = 0, -1, checkpoint.next_seq) AS next_seq,
            toInt64(groupBitmap(toUInt64(event.producer_seq))) AS seen
        FROM
        (
            SELECT producer_id, producer_seq
            FROM {{table:Identifier}}
            WHERE producer_seq >= 0 AND has({{producers:Array(UUID)}}, producer_id)
        ) AS event
        ASOF LEFT JOIN told AS checkpoint
            ON event.producer_id = checkpoint.producer_id AND event.producer_seq < checkpoint.next_seq
        GROUP BY producer_id, next_seq
    )
SELECT
    producer_id,
    argMax(seen_below, next_seq),
    maxIf(at_us, next_seq - seen_below <= dropped),
    maxIf(next_seq, first_heard_ms <= {{due_ms:Int64}}),
    argMaxIf(seen_below, next_seq, first_heard_ms <= {{due_ms:Int64}})
FROM
(
    SELECT
        told.producer_id AS producer_id, told.next_seq AS next_seq, told.at_us AS at_us, told.first_heard_ms AS first_heard_ms,
        arraySum(mapValues(mapFilter((reason, lost) -> NOT has({{unnumbered:Array(String)}}, reason), told.said.1))) AS dropped,
        sum(arrived.seen) OVER (PARTITION BY told.producer_id ORDER BY told.next_seq) AS seen_below
    FROM told
    LEFT JOIN arrived ON told.producer_id = arrived.producer_id AND told.next_seq = arrived.next_seq
)
GROUP BY producer_id
"""  # noqa: S608 - our own text
"""Each number goes to the first checkpoint that covers it (ASOF), and the counts are summed up along the checkpoints."""

ABSENT_NUMBERS = """
SELECT previous_end, producer_seq
FROM
(
    SELECT
        producer_seq,
        lagInFrame(producer_seq + 1, 1, 0) OVER (ORDER BY producer_seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous_end
    FROM (SELECT DISTINCT producer_seq FROM {table:Identifier} WHERE producer_id = {producer_id:UUID} AND producer_seq >= 0)
)
WHERE producer_seq > previous_end
ORDER BY producer_seq
LIMIT {limit:UInt32}
"""
