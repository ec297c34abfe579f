"""Derived tables: computed from a raw table day by day, and each day put in whole.

A day is computed into a table of its own and put in by REPLACE PARTITION, so readers see the old day or the new one, and
computing it once more costs time and changes nothing. Nothing is pushed from insert to insert. Whether a day is up to date
follows from the sum of its source's parts: any insert, repair or swap changes it, and so it needs neither a boundary between
past and live nor a record of what was seen. A merge changes it too, which costs a computation and no more. The sum is taken
before the day is read and looked at again after it was put in: what comes in between is computed again.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stream_processors.replay.derivation import DAY_COLUMN, Derivation, parse
from stream_processors.replay.errors import ReplayRefused, WrongQuestion
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Refused

BUILDS_MAX = 3
"""So often a day is computed in one refresh while its source goes on changing."""
_COMMENT = "tailrace derive"
_ERROR_CHARS_MAX = 400
_SETTINGS = "SETTINGS allow_nullable_key = 1"

_DEFINITIONS = "SELECT name, definition FROM derived_tables FINAL WHERE definition != '' ORDER BY name FORMAT JSONEachRow"
_BUILT = """
SELECT day, built_from, definition_sha256, fingerprint, rows, toUnixTimestamp64Milli(built_at) AS built_ms FROM derived_days FINAL
WHERE name = {name:String} AND definition_sha256 != '' ORDER BY day
FORMAT JSONEachRow
"""
_FINGERPRINTS = """
SELECT partition_id AS day, lower(hex(MD5(arrayStringConcat(arraySort(groupArray(hash_of_all_files)), ' ')))) AS fingerprint
FROM system.parts WHERE database = currentDatabase() AND table = {table:String} AND active AND rows > 0
GROUP BY day ORDER BY day
FORMAT JSONEachRow
"""
_LEFT = """
SELECT name FROM system.tables
WHERE database = currentDatabase() AND startsWith(name, {prefix:String}) AND metadata_modification_time < now() - INTERVAL 1 HOUR
FORMAT TabSeparatedRaw
"""


class Built(NamedTuple):
    """A day of a derived table that was computed. `day` as YYYYMMDD."""

    table: str
    day: str
    rows: int
    built_from: str


@dataclass(frozen=True, slots=True)
class Day:
    """A day as it stands. `stale`: its source has changed since, or is gone where `gone`."""

    day: str
    rows: int
    built_from: str
    built_ms: int
    stale: bool
    gone: bool


class _Record(NamedTuple):
    """What is known of a day that was computed."""

    built_from: str
    definition_sha256: str
    fingerprint: str
    rows: int
    built_ms: int


@dataclass(frozen=True, slots=True)
class Derived:
    """Raises WrongQuestion for a definition that the warehouse cannot take, Retryable where it does not answer."""

    writer: ClickHouseWriter
    tell: Callable[[str], None]

    def definitions(self) -> list[Derivation]:
        return [parse(row["definition"]) for row in _rows(self.writer.query(_DEFINITIONS))]

    def days(self, derivation: Derivation) -> list[Day]:
        prints = self._fingerprints(derivation.source)
        return [
            Day(
                day,
                known.rows,
                known.built_from,
                known.built_ms,
                stale=known.built_from == derivation.source and day in prints and known.fingerprint != prints[day],
                gone=day not in prints,
            )
            for day, known in self._built(derivation.table).items()
        ]

    def apply(self, derivation: Derivation, run_table: str | None = None) -> list[Built]:
        """Make the table and fill its past, from `run_table` on days that the source does not have any more.

        What is defined otherwise than before is computed for every day beside the table, and takes its place at once.
        """
        wanted = {DAY_COLUMN: "Date", **self.columns_of(derivation)}
        there = self.writer.columns(derivation.table)
        former = next((each for each in self.definitions() if each.table == derivation.table), None)
        if there and former is None:
            raise WrongQuestion(f"{derivation.table} is there, and is no derived table: name another")
        if there == wanted and former is not None and former.sha256 == derivation.sha256:
            return [*self.refresh([derivation]), *self._fill(derivation, derivation.table, self._gone(derivation, run_table))]
        days = dict.fromkeys(self._fingerprints(derivation.source), derivation.source) | self._gone(derivation, run_table)
        if lost := sorted(self._built(derivation.table).keys() - days.keys()) if there else []:
            raise ReplayRefused(
                f"{derivation.source} has no {', '.join(lost)} any more, from which {derivation.table} was computed: replay "
                f"these days and name the run with --run, or drop {derivation.table}"
            )
        return self._make_anew(derivation, wanted, days, exists=bool(there))

    def refresh(self, derivations: Iterable[Derivation]) -> list[Built]:
        """Compute the days whose source, or definition, has changed. Days that their source has lost stay as they are."""
        built = []
        for derivation in derivations:
            for _ in range(BUILDS_MAX):
                if not (changed := self._changed(derivation)):
                    break
                built += self._fill(derivation, derivation.table, dict.fromkeys(changed, derivation.source))
        return built

    def rebuild(self, source: str, days: Iterable[str]) -> list[Built]:
        """Compute these days of all tables derived from `source`. One that cannot be is told of, and stays stale."""
        built, there = [], self._fingerprints(source)
        for derivation in (each for each in self.definitions() if each.source == source):
            try:
                built += self._fill(derivation, derivation.table, dict.fromkeys(sorted(there.keys() & set(days)), source))
                for day in set(days) - there.keys():
                    self.writer.command(f"ALTER TABLE {derivation.table} DROP PARTITION ID '{day}'", _COMMENT)
            except Refused as refusal:
                self.tell(f"{derivation.table} could not be computed again, and is stale: {refusal.text[:_ERROR_CHARS_MAX]}")
        return built

    def drop(self, name: str) -> None:
        """Raises WrongQuestion where no derived table has the name."""
        if name not in {each.table for each in self.definitions()}:
            raise WrongQuestion(f"no derived table is named {name}: `tailrace derive list` names them")
        self.writer.command(f"DROP TABLE IF EXISTS {name} SYNC", _COMMENT)
        for day in self._built(name):
            self._note(name, day, _Record("", "", "", 0, 0))
        self._define(name, "")

    def _make_anew(
        self, derivation: Derivation, columns: Mapping[str, str], days: Mapping[str, str], *, exists: bool
    ) -> list[Built]:
        name = derivation.table
        beside = f"{_building(name)}{secrets.token_hex(4)}"
        order = f"({DAY_COLUMN}{', ' if derivation.order_by else ''}{derivation.order_by})"
        listed = ", ".join(f"`{column}` {kind}" for column, kind in columns.items())
        partition = f"PARTITION BY toYYYYMMDD({DAY_COLUMN}) ORDER BY {order}"
        self.writer.command(f"CREATE TABLE {beside} ({listed}) ENGINE = MergeTree {partition} {_SETTINGS}", _COMMENT)
        prints = self._fingerprints(derivation.source)
        built = [self._compute(derivation, beside, day, source) for day, source in sorted(days.items())]
        self._define(name, derivation.text)
        self.writer.command(f"EXCHANGE TABLES {beside} AND {name}" if exists else f"RENAME TABLE {beside} TO {name}", _COMMENT)
        for each in built:
            self._note(name, each.day, _record(derivation, each, prints.get(each.day, "")))
        if exists:
            self.writer.command(f"DROP TABLE {beside} SYNC", _COMMENT)
        return [*built, *self.refresh([derivation])]

    def _fill(self, derivation: Derivation, table: str, days: Mapping[str, str]) -> list[Built]:
        """Each day computed beside the table and put in whole; noted with the sum that its source had before."""
        built = []
        for left in self.writer.query(_LEFT, {"prefix": _building(table)}).decode().split():
            self.writer.command(f"DROP TABLE IF EXISTS {left} SYNC", _COMMENT)
        for day, source in days.items():
            fingerprint = self._fingerprints(source).get(day, "")
            beside = f"{_building(table)}{secrets.token_hex(4)}"
            self.writer.command(f"CREATE TABLE {beside} AS {table}", _COMMENT)
            each = self._compute(derivation, beside, day, source)
            whole = f"REPLACE PARTITION ID '{day}' FROM {beside}" if each.rows else f"DROP PARTITION ID '{day}'"
            self.writer.command(f"ALTER TABLE {table} {whole}", _COMMENT)
            self.writer.command(f"DROP TABLE {beside} SYNC", _COMMENT)
            self._note(table, day, _record(derivation, each, fingerprint))
            self.tell(f"{table}: {day} has {each.rows:,} rows, from {source}")
            built.append(each)
        return built

    def _compute(self, derivation: Derivation, into: str, day: str, source: str) -> Built:
        """One day's rows into a table in which it has none yet."""
        rows = self._day_rows(source, day)
        date = f"toDate('{day[:4]}-{day[4:6]}-{day[6:]}') AS {DAY_COLUMN}"
        self.writer.command(f"INSERT INTO {into} SELECT {date}, * FROM ({derivation.over(rows)})", _COMMENT)  # noqa: S608 - theirs
        count = f"SELECT count() FROM {into} WHERE _partition_id = '{day}' FORMAT TabSeparated"  # noqa: S608
        return Built(derivation.table, day, int(self.writer.query(count)), source)

    def _day_rows(self, source: str, day: str) -> str:
        """An event once: its first copy. Tables without events (definitions, checkpoints) are read with FINAL."""
        if "event_id" in self.writer.columns(source):
            once = "ORDER BY unit_id, event_id, _kafka_time, _topic_id, _partition, _offset LIMIT 1 BY unit_id, event_id"
            return f"SELECT * FROM {source} WHERE _partition_id = '{day}' {once}"  # noqa: S608
        return f"SELECT * FROM {source} FINAL WHERE _partition_id = '{day}'"  # noqa: S608

    def columns_of(self, derivation: Derivation) -> dict[str, str]:
        """Types by name, as the warehouse says that the definition has them. Raises WrongQuestion where it cannot take it."""
        select = derivation.over(self._day_rows(derivation.source, "19700101"))
        try:
            described = self.writer.query(f"DESCRIBE ({select}) FORMAT TabSeparatedRaw").decode().splitlines()
        except Refused as refusal:
            raise WrongQuestion(f"{derivation.table}: the warehouse says {refusal.text[:_ERROR_CHARS_MAX]}") from refusal
        columns = dict(line.split("\t")[:2] for line in described)
        if odd := [name for name in columns if not re.fullmatch(r"[A-Za-z]\w*", name)]:
            raise WrongQuestion(f"{derivation.table}: name the columns {', '.join(odd)} by AS, beginning with a letter")
        if missing := [name for name in re.findall(r"\w+", derivation.order_by) if name not in columns]:
            raise WrongQuestion(f"{derivation.table}: `order by` names {', '.join(missing)}, which it does not select")
        return columns

    def _gone(self, derivation: Derivation, run_table: str | None) -> dict[str, str]:
        """Days that only the run has, with its table."""
        if run_table is None:
            return {}
        return dict.fromkeys(self._fingerprints(run_table).keys() - self._fingerprints(derivation.source).keys(), run_table)

    def _changed(self, derivation: Derivation) -> list[str]:
        built = self._built(derivation.table)
        wanted = {
            day: (derivation.source, derivation.sha256, fingerprint)
            for day, fingerprint in self._fingerprints(derivation.source).items()
        }
        return [day for day, asked in wanted.items() if day not in built or built[day][:3] != asked]

    def _fingerprints(self, table: str) -> dict[str, str]:
        rows = _rows(self.writer.query(_FINGERPRINTS, {"table": table}))
        return {row["day"]: row["fingerprint"] for row in rows}

    def _built(self, name: str) -> dict[str, _Record]:
        rows = _rows(self.writer.query(_BUILT, {"name": name}))
        return {
            row["day"]: _Record(
                row["built_from"], row["definition_sha256"], row["fingerprint"], int(row["rows"]), int(row["built_ms"])
            )
            for row in rows
        }

    def _note(self, name: str, day: str, record: _Record) -> None:
        fields = record._asdict()
        del fields["built_ms"]
        self._insert("derived_days", {"name": name, "day": day, **fields})

    def _define(self, name: str, text: str) -> None:
        self._insert("derived_tables", {"name": name, "definition": text})

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        statement = f"INSERT INTO {table} ({', '.join(row)}) FORMAT JSONEachRow"
        self.writer.command(statement, _COMMENT, json.dumps(row).encode())


def _record(derivation: Derivation, built: Built, fingerprint: str) -> _Record:
    return _Record(built.built_from, derivation.sha256, fingerprint, built.rows, 0)


def _building(name: str) -> str:
    """What the names of tables begin with in which days of it are computed."""
    return f"building_{name}_"


def _rows(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines()]
