"""Which coordinates a run has: rows and dead letters, as ranges. One bit an offset, so that a run may be large."""

from typing import NamedTuple
from uuid import UUID

from stream_processors.replay.tables import LETTERS
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import OffsetRanges

BLOCK_OFFSETS = 1 << 20

_HERE = f"""
    SELECT _offset FROM {{table}} WHERE _topic_id = {{{{topic_id:UUID}}}} AND _partition = {{{{partition:Int32}}}}
    UNION ALL
    SELECT _offset FROM {LETTERS}
    WHERE _run = {{{{run:String}}}} AND _topic_id = {{{{topic_id:UUID}}}} AND _partition = {{{{partition:Int32}}}}
"""  # noqa: S608 - names of our own
_BLOCKS = f"""
SELECT
    intDiv(_offset, {BLOCK_OFFSETS}) AS block, min(_offset), max(_offset) + 1, groupBitmap(toUInt32(_offset % {BLOCK_OFFSETS})),
    count()
FROM ({_HERE}) GROUP BY block ORDER BY block FORMAT TabSeparated
"""  # noqa: S608 - pieces of our own
_ISLANDS = f"""
SELECT min(_offset), max(_offset) + 1
FROM (
    SELECT _offset, _offset - row_number() OVER (ORDER BY _offset) AS island
    FROM (SELECT DISTINCT _offset FROM ({_HERE}) WHERE intDiv(_offset, {BLOCK_OFFSETS}) IN {{{{blocks:Array(Int64)}}}})
)
GROUP BY island FORMAT TabSeparated
"""  # noqa: S608 - pieces of our own


class Present(NamedTuple):
    """`copies` are rows and dead letters beyond one for their coordinates, counted without FINAL."""

    ranges: OffsetRanges
    copies: int


def present(writer: ClickHouseWriter, run: str, table: str, topic_id: UUID, partition: int) -> Present:
    """What of a partition is in a run's table or among its dead letters."""
    asked = {"run": run, "topic_id": str(topic_id), "partition": str(partition)}
    ranges, holed, copies = [], [], 0
    for line in writer.query(_BLOCKS.format(table=table), asked).splitlines():
        block, first, end, offsets, rows = map(int, line.split())
        copies += rows - offsets
        if offsets == end - first:
            ranges.append((first, end))
        else:
            holed.append(block)
    if holed:
        listed = f"[{','.join(map(str, holed))}]"
        answer = writer.query(_ISLANDS.format(table=table), {**asked, "blocks": listed})
        ranges += [(first, end) for first, end in (map(int, line.split()) for line in answer.splitlines())]
    return Present(OffsetRanges(ranges), copies)
