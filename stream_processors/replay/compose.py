"""A table composed beside the live one, until it differs from it by the touched days only.

Days that nothing touches are cloned: hard links, at a cost by parts and not by rows. A touched day is what is given for it
(cloned as well, where all of it is given) and a copy of the live rows that stay. Composing goes by parts, which never change: a
part is looked at once, and what merges or inserts make meanwhile is another part, looked at in the next round. With the table
held and drained a round ends with nothing new, and `check` compares what is there with what should be.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stream_processors.replay.blend import COORDINATES, Blend
from stream_processors.replay.errors import ReplayRefused
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Retryable

TAIL_ROWS_MAX = 200_000
"""So few rows not looked at yet are left for when the table is held."""
ROUNDS_MAX = 100
STATEMENT_PARTS_MAX = 1_000
COPY_ROWS_MAX = 4_000_000
"""A statement copies parts of at most so many rows, or one part."""

_PARTS = """
SELECT name, partition_id AS day, rows, min_block_number AS first_block, max_block_number AS last_block FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active
FORMAT JSONEachRow
"""
_COLUMNS = """
SELECT name FROM system.columns
WHERE database = currentDatabase() AND table = {table:String} AND default_kind NOT IN ('EPHEMERAL', 'ALIAS')
ORDER BY position
FORMAT TabSeparatedRaw
"""
_DIFFERENT_COLUMNS = """
SELECT count() FROM
(
    SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table IN ({one:String}, {other:String})
    GROUP BY name, type HAVING count() = 1
)
FORMAT TabSeparated
"""
_COPYING = "SETTINGS insert_deduplicate = 0, optimize_on_insert = 0"


class Moved(ReplayRefused):
    """Days that the plan does not touch turned out to hold rows of its offsets: compose anew."""


class Incomplete(ReplayRefused):
    """The composed table does not hold what it should."""


class Part(NamedTuple):
    """An immutable piece of a table. Blocks are numbered as they are inserted; a merged part spans those of its sources."""

    name: str
    day: str
    rows: int
    first_block: int
    last_block: int


class Staying(NamedTuple):
    """Of a part's rows: how many stay, are contested, leave."""

    stays: int = 0
    contested: int = 0
    leaves: int = 0


@dataclass(slots=True)
class Composer:
    """One target composed from one live table. `comment` is the log_comment of all that it runs in the warehouse."""

    writer: ClickHouseWriter
    live: str
    target: str
    blend: Blend
    comment: str
    touched: set[str] = field(default_factory=set)
    _columns: str = ""
    _seen: dict[str, Staying] = field(default_factory=dict)
    _given_rows: dict[str, int] = field(default_factory=dict)
    _marks: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Find what is touched, make the target, put in what is given."""
        self._columns = _names(self.writer, self.live)
        parts = parts_of(self.writer, self.live)
        staying = self._look(parts)
        given = self._given()
        self.touched = {part.day for part in parts if staying.get(part.name, Staying()).leaves} | set(given)
        self.writer.command(f"CREATE TABLE {self.target} AS {self.live}", self.comment)
        for day, (rows, gives) in sorted(given.items()):
            self._give(day, whole=rows == gives)
            self._given_rows[day] = gives
        self._take(parts, staying)

    def approach(self) -> None:
        """Rounds beside live inserts, until little is left."""
        for _ in range(ROUNDS_MAX):
            fresh = [part for part in parts_of(self.writer, self.live) if part.name not in self._seen]
            if sum(part.rows for part in fresh) <= TAIL_ROWS_MAX:
                return
            self._take(fresh, self._look(fresh))

    def finish(self) -> None:
        """Rounds until nothing is left; only while the table is held and drained. Raises Incomplete."""
        for _ in range(ROUNDS_MAX):
            parts = parts_of(self.writer, self.live)
            fresh = [part for part in parts if part.name not in self._seen]
            if not fresh:
                self._check(parts)
                return
            self._take(fresh, self._look(fresh))
        raise Retryable(f"the parts of {self.live} keep changing while it is held")

    def marks(self) -> dict[str, int]:
        """By day, the last block that is accounted for: what is inserted later has a higher one."""
        return dict(self._marks)

    def _look(self, parts: Sequence[Part]) -> dict[str, Staying]:
        """How many rows stay, by part; parts that a merge has replaced meanwhile are left out."""
        found = {}
        for first in range(0, len(parts), STATEMENT_PARTS_MAX):
            some = parts[first : first + STATEMENT_PARTS_MAX]
            statement = f"""
                SELECT _part AS part, countIf({self.blend.stays}) AS stays, countIf({self.blend.contested}) AS contested,
                       count() - countIf({self.blend.stays}) AS leaves
                FROM {self.live} WHERE _part IN ({_listed(some)}) GROUP BY part FORMAT JSONEachRow
            """  # noqa: S608 - conditions of our own
            for row in _rows(self.writer.query(statement)):
                found[row["part"]] = Staying(int(row["stays"]), int(row["contested"]), int(row["leaves"]))
        return found

    def _given(self) -> dict[str, tuple[int, int]]:
        """Rows that the other table has, and how many of them it gives, by day."""
        statement = f"""
            SELECT _partition_id AS day, count() AS rows, countIf({self.blend.gives}) AS gives
            FROM {self.blend.given} GROUP BY day HAVING gives > 0 FORMAT JSONEachRow
        """  # noqa: S608
        return {row["day"]: (int(row["rows"]), int(row["gives"])) for row in _rows(self.writer.query(statement))}

    def _give(self, day: str, *, whole: bool) -> None:
        if whole:
            self._clone(day, self.blend.given)
            return
        for some in _copied_together(part for part in parts_of(self.writer, self.blend.given) if part.day == day):
            self._copy(self.blend.given, some, self.blend.gives)

    def _take(self, parts: Sequence[Part], staying: Mapping[str, Staying]) -> None:
        by_day = defaultdict(list)
        for part in parts:
            by_day[part.day].append(part)
        for day, of_day in sorted(by_day.items()):
            if day not in self.touched:
                if any(staying.get(part.name, Staying()).leaves for part in of_day):
                    raise Moved(f"rows of these offsets are on {day} as well, by now")
                self._clone(day, self.live)
            else:
                self._take_day(day, [(part, staying[part.name]) for part in of_day if part.name in staying])
            self._marks[day] = max(self._marks.get(day, 0), *(part.last_block for part in of_day))
        self._seen |= {part.name: staying.get(part.name, Staying()) for part in parts}

    def _take_day(self, day: str, parts: Sequence[tuple[Part, Staying]]) -> None:
        """What lies wholly past the mark was never copied; of the rest, and of what is contested, some may be there."""
        mark = self._marks.get(day, -1)
        staying = [part for part, rows in parts if rows.stays]
        for some in _copied_together(part for part in staying if part.first_block > mark):
            self._copy(self.live, some, self.blend.stays)
        for some in _copied_together(part for part in staying if part.first_block <= mark):
            self._copy(self.live, some, self.blend.stays, absent_in=day)
        for some in _copied_together(part for part, rows in parts if rows.contested):
            self._copy(self.live, some, self.blend.contested, absent_in=day)

    def _clone(self, day: str, source: str) -> None:
        self.writer.command(f"ALTER TABLE {self.target} REPLACE PARTITION ID '{day}' FROM {source}", self.comment)

    def _copy(self, source: str, parts: Sequence[Part], which: str, *, absent_in: str | None = None) -> None:
        chosen = f"_part IN ({_listed(parts)}) AND ({which})"
        if absent_in is not None:
            chosen += f" AND {_absent(self.target, absent_in, source, chosen)}"
        copy = f"INSERT INTO {self.target} ({self._columns}) SELECT {self._columns} FROM {source} WHERE {chosen}"  # noqa: S608
        self.writer.command(f"{copy} {_COPYING}", self.comment)

    def _check(self, parts: Sequence[Part]) -> None:
        """By the counts of parts, which costs nothing; where these differ (a merge drops copies), by coordinates."""
        there, wanted = rows_by_day(parts_of(self.writer, self.target)), self._wanted(parts)
        days = {day for day in there.keys() | wanted.keys() if there.get(day, 0) != wanted.get(day, 0)}
        if days and (wrong := self._different(days)):
            raise Incomplete(f"the composed table does not hold what it should on {', '.join(sorted(wrong))}")
        if int(self.writer.query(_DIFFERENT_COLUMNS, {"one": self.target, "other": self.live})):
            raise Incomplete(f"the columns of {self.live} have changed")

    def _wanted(self, parts: Sequence[Part]) -> dict[str, int]:
        wanted = dict(self._given_rows)
        for part in parts:
            rows = self._seen[part.name].stays if part.day in self.touched else part.rows
            wanted[part.day] = wanted.get(part.day, 0) + rows
        return wanted

    def _different(self, days: Collection[str]) -> set[str]:
        """Of `days`, those on which another number of coordinates is there than should be."""
        return {day for day in days if self._coordinates(day, composed=True) != self._coordinates(day, composed=False)}

    def _coordinates(self, day: str, *, composed: bool) -> int:
        on_day = f"_partition_id = '{day}'"
        if composed:
            rows = f"SELECT {COORDINATES} FROM {self.target} WHERE {on_day}"  # noqa: S608
        elif day not in self.touched:
            rows = f"SELECT {COORDINATES} FROM {self.live} WHERE {on_day}"  # noqa: S608
        else:
            rows = f"""
                SELECT {COORDINATES} FROM {self.blend.given} WHERE {on_day} AND {self.blend.gives}
                UNION ALL
                SELECT {COORDINATES} FROM {self.live} WHERE {on_day} AND {self.blend.may_stay}
            """  # noqa: S608
        return int(self.writer.query(f"SELECT uniqExact({COORDINATES}) FROM ({rows}) FORMAT TabSeparated"))  # noqa: S608


def copy_stragglers(composer: Composer, left: str, marks: Mapping[str, int]) -> None:
    """What was inserted into the table that has `left` after its parts were accounted for, into the one in its place.

    There is nothing of the kind unless a restart of the warehouse forgot the hold. Only while the new one is held and drained.
    """
    late = [part for part in parts_of(composer.writer, left) if part.last_block > marks.get(part.day, -1)]
    columns = _names(composer.writer, left) if late else ""
    for part in late:
        which = composer.blend.may_stay if part.day in composer.touched else "1"
        chosen = f"_part = '{part.name}' AND ({which})"
        absent = _absent(composer.target, part.day, left, chosen)
        copy = f"INSERT INTO {composer.target} ({columns}) SELECT {columns} FROM {left} WHERE {chosen} AND {absent}"  # noqa: S608
        composer.writer.command(f"{copy} {_COPYING}", composer.comment)


def parts_of(writer: ClickHouseWriter, table: str) -> list[Part]:
    rows = _rows(writer.query(_PARTS, {"table": table}))
    return [Part(row["name"], row["day"], int(row["rows"]), int(row["first_block"]), int(row["last_block"])) for row in rows]


def rows_by_day(parts: Iterable[Part]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for part in parts:
        found[part.day] += part.rows
    return dict(found)


def _absent(target: str, day: str, source: str, chosen: str) -> str:
    """Coordinates that `target` does not have on the day; only those that are asked about are remembered for it."""
    asked = f"({COORDINATES}) IN (SELECT {COORDINATES} FROM {source} WHERE {chosen})"  # noqa: S608
    return f"({COORDINATES}) NOT IN (SELECT {COORDINATES} FROM {target} WHERE _partition_id = '{day}' AND {asked})"  # noqa: S608


def _copied_together(parts: Iterable[Part]) -> Iterator[list[Part]]:
    together: list[Part] = []
    for part in parts:
        if together and (len(together) >= STATEMENT_PARTS_MAX or sum(each.rows for each in together) + part.rows > COPY_ROWS_MAX):
            yield together
            together = []
        together.append(part)
    if together:
        yield together


def _names(writer: ClickHouseWriter, table: str) -> str:
    """All columns that are kept, as a list for SQL."""
    return ", ".join(f"`{name}`" for name in writer.query(_COLUMNS, {"table": table}).decode().splitlines())


def _listed(parts: Iterable[Part]) -> str:
    return ", ".join(f"'{part.name}'" for part in parts)


def _rows(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines()]
