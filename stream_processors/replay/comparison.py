"""A run's rows against the live table's at the same coordinates: sums of blocks first, then row by row where sums differ.

Both sides are read with FINAL, dead letters too. Compared is every column but those that say by whom and when a row was
written. Rows are summed as their binary form, so that no two values look alike.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from stream_processors.replay.manifest import Manifest
from stream_processors.replay.tables import LETTERS, Definition
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter

BLOCK_OFFSETS = 1 << 16
BLOCKS_AT_ONCE = 8
"""Explained together: what a question takes in memory is bounded by it."""
SHOWN_MAX = 20
"""Of each kind of difference so many rows are shown; all are counted."""
_NOT_COMPARED = frozenset({"_run", "_ingested_at", "_framed", "_owned", "_free"})


class Kind(StrEnum):
    """How live and run differ at one record's coordinates."""

    OTHER_VALUES = "other_values"
    """Both have a row; columns differ."""
    REPAIRED = "repaired"
    """Live has the row of a repaired dead letter, the run has the dead letter."""
    POISON_NOW = "poison_now"
    """Live has a row, the run could not take the record."""
    TAKEN_NOW = "taken_now"
    """Live has a dead letter, the run could take the record."""
    MISSING_IN_LIVE = "missing_in_live"
    """Only the run accounts for it: live has lost it, or has not come to it yet."""
    MISSING_IN_RUN = "missing_in_run"


class Difference(NamedTuple):
    kind: Kind
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of all differences; `shown` are some of each kind. `columns` counts rows by what differs in them."""

    rows: int
    counts: Mapping[Kind, int]
    columns: Mapping[str, int]
    shown: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not sum(self.counts.values())


_SIDES = """
SELECT _partition, _offset, 'run' AS side, {hash} AS hash, '' AS run FROM {run_table} FINAL WHERE {where}
UNION ALL
SELECT _partition, _offset, 'live', {hash}, toString(_run) FROM {table} FINAL WHERE {where}
UNION ALL
SELECT _partition, _offset, 'run letter', 1, '' FROM {letters} FINAL WHERE _run = '{run}' AND {where}
UNION ALL
SELECT _partition, _offset, 'live letter', 1, '' FROM dead_letters FINAL WHERE {where}
"""
_BLOCKS = """
SELECT _partition, block FROM (
    SELECT
        _partition, intDiv(_offset, {block_offsets}) AS block, startsWith(side, 'run') AS ours, side LIKE '%letter' AS letter,
        (letter, count(), sum(hash), groupBitXor(hash), sum(hash * toUInt64(_offset))) AS digest
    FROM ({sides}) GROUP BY _partition, block, ours, letter
)
GROUP BY _partition, block
HAVING arraySort(groupArrayIf(digest, ours)) != arraySort(groupArrayIf(digest, NOT ours))
ORDER BY _partition, block FORMAT TabSeparated
"""
_ROWS = "SELECT count() FROM {run_table} FINAL WHERE {where} FORMAT TabSeparated"
_KINDS = """
SELECT kind, count(), groupArray({shown})((_partition, _offset)) FROM (
    SELECT
        _partition, _offset, countIf(side = 'run') AS ours, countIf(side = 'live') AS theirs,
        countIf(side = 'run letter') AS our_letters, countIf(side = 'live letter') AS their_letters,
        multiIf(
            our_letters > 0 AND anyIf(run, side = 'live') = 'repaired', 'repaired',
            our_letters > 0 AND theirs > 0, 'poison_now',
            ours > 0 AND theirs > 0, 'other_values',
            ours > 0 AND their_letters > 0, 'taken_now',
            ours > 0 OR our_letters > 0, 'missing_in_live',
            'missing_in_run') AS kind
    FROM ({sides}) GROUP BY _partition, _offset
    HAVING NOT (ours > 0 AND theirs > 0 AND anyIf(hash, side = 'run') = anyIf(hash, side = 'live'))
        AND NOT (ours = 0 AND theirs = 0 AND our_letters > 0 AND their_letters > 0)
    ORDER BY _partition, _offset
)
GROUP BY kind FORMAT JSONCompactEachRow
"""
_COLUMNS = """
SELECT {counts} FROM (SELECT * FROM {run_table} FINAL WHERE {where}) AS ours INNER JOIN (SELECT * FROM {table} FINAL WHERE
{where}) AS theirs ON ours._partition = theirs._partition AND ours._offset = theirs._offset FORMAT JSONCompactEachRow
"""


@dataclass(frozen=True, slots=True)
class Comparer:
    """Raises Retryable where the warehouse does not answer."""

    writer: ClickHouseWriter
    manifest: Manifest
    live: Definition

    def compare(self) -> Comparison:
        """All of the run's ranges."""
        rows = int(self._ask(_ROWS, self._everywhere()))
        counts: Counter[Kind] = Counter()
        columns: Counter[str] = Counter()
        shown: list[Difference] = []
        for where in self._differing():
            for kind, count, places in self._lines(_KINDS, where):
                counts[Kind(kind)] += int(count)
                room = SHOWN_MAX - sum(each.kind == kind for each in shown)
                shown += [Difference(Kind(kind), int(partition), int(offset)) for partition, offset in places[:room]]
            if counts[Kind.OTHER_VALUES]:
                columns.update(self._columns(where))
        return Comparison(rows, dict(counts), {name: count for name, count in columns.items() if count}, tuple(shown))

    def _differing(self) -> Iterator[str]:
        """Where the blocks are whose sums differ, some at a time."""
        answer = self._ask(_BLOCKS, self._everywhere()).splitlines()
        blocks = [(int(partition), int(block)) for partition, block in (line.split() for line in answer)]
        for first in range(0, len(blocks), BLOCKS_AT_ONCE):
            some = blocks[first : first + BLOCKS_AT_ONCE]
            listed = ", ".join(f"({partition}, {block})" for partition, block in some)
            yield f"{self._everywhere()} AND (_partition, intDiv(_offset, {BLOCK_OFFSETS})) IN ({listed})"

    def _everywhere(self) -> str:
        ranges = [
            f"(_partition = {each.partition} AND _offset >= {piece.first} AND _offset < {piece.end})"
            for each in self.manifest.ranges
            for piece in each.pieces
        ]
        return f"_topic_id = '{self.manifest.topic_id}' AND ({' OR '.join(ranges)})"

    def _columns(self, where: str) -> Counter[str]:
        """How many rows differ in each column."""
        names = self._compared()
        counts = ", ".join(f"countIf({_binary(f'ours.`{name}`')} != {_binary(f'theirs.`{name}`')})" for name in names)
        [found] = self._lines(_COLUMNS.replace("{counts}", counts), where)
        return Counter(dict(zip(names, map(int, found), strict=True)))

    def _compared(self) -> list[str]:
        return [name for name in self.live.stored if name not in _NOT_COMPARED]

    def _lines(self, statement: str, where: str) -> list[Sequence[Any]]:
        return [json.loads(line) for line in self._ask(statement, where).splitlines()]

    def _ask(self, statement: str, where: str) -> bytes:
        manifest = self.manifest
        pieces = {
            "hash": f"sipHash64({_binary(', '.join(f'`{name}`' for name in self._compared()))})",
            "run_table": manifest.run_table,
            "table": f"`{manifest.table}`",
            "letters": LETTERS,
            "run": manifest.run,
            "where": where,
            "block_offsets": BLOCK_OFFSETS,
            "shown": SHOWN_MAX,
        }
        sides = _SIDES.format(**pieces)
        return self.writer.query(statement.format(**pieces, sides=sides))


def _binary(columns: str) -> str:
    return f"formatRowNoNewline('RowBinary', {columns})"
