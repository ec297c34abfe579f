"""A run's own tables, made from the live table's definition: same columns, same keys, another fence.

`replay_<run>` takes the rows. Where columns are computed on the way in (`select`), rows are sent to `replay_<run>_in`, which
checks the envelope as every table does, keeps nothing, and from which a materialized view puts them into the run's table within
the same insert; `replay_<run>_try` does the same without fence and effect, so that the engine can be asked what it would
refuse.
"""

import hashlib
import re
from dataclasses import dataclass

from schemas.tables import Column
from stream_processors.replay.errors import ReplayRefused, WrongQuestion
from stream_processors.replay.manifest import Manifest, run_table
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Refused
from stream_processors.warehouse.records import Destination

LETTERS = "replay_dead_letters"
FENCE = "replay_fence"
LIVE_FENCE_SQL = "joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20))"
RUN_FENCE_SQL = (
    "joinGet('replay_fence', 'owner', toFixedString(concat(substring(_envelope, 25, 20), substring(_envelope, 49, 16)), 36))"
)
_HEAD = re.compile(r"CREATE TABLE [^\s(]+")
_COLUMNS = "SELECT name, type, default_kind FROM system.columns WHERE database = currentDatabase() AND table = {table:String}"
_INDEX = re.compile(r",\s*INDEX [^\n]*?(?=,?\n)")
_GUARD = re.compile(r"(?<=`_owned` UInt8 )DEFAULT [^\n]*(?=,\n)|(?<=`_free` UInt8 )DEFAULT [^\n]*(?=,\n)")
_SETTINGS = "SETTINGS prefer_column_name_to_alias = 1"
_COMMENT = "tailrace replay"
_ERROR_CHARS_MAX = 300
_NO_TABLE = frozenset({60, 390})


@dataclass(frozen=True, slots=True)
class Definition:
    """A raw table as the warehouse has it."""

    table: str
    sql: str
    columns: tuple[Column, ...]

    @property
    def sha256(self) -> str:
        """Of everything but the name."""
        return hashlib.sha256(_named(self.sql, "").encode()).hexdigest()

    @property
    def stored(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if not column.ephemeral)

    @property
    def fields(self) -> tuple[str, ...]:
        """The stored columns that are the event's."""
        return tuple(name for name in self.stored if not name.startswith("_"))


def definition_of(writer: ClickHouseWriter, table: str) -> Definition:
    """Raises WrongQuestion where there is no such table, or it is not one that the sink fills."""
    try:
        sql = writer.query(f"SHOW CREATE TABLE {_quoted(table)} FORMAT TabSeparatedRaw").decode().strip()
    except Refused as refusal:
        if refusal.code not in _NO_TABLE:
            raise
        raise WrongQuestion(f"the warehouse has no table {table}") from refusal
    if LIVE_FENCE_SQL not in sql or f"'held', '{table}')" not in sql:
        raise WrongQuestion(f"{table} is no table that a topic is brought into: it has no fence and no hold of its own")
    rows = writer.query(_COLUMNS + " FORMAT TabSeparatedRaw", {"table": table}).decode().splitlines()
    columns = [Column(name, kind, None, default == "EPHEMERAL") for name, kind, default in (row.split("\t") for row in rows)]
    return Definition(table, sql, tuple(columns))


def destination(manifest: Manifest) -> Destination:
    """Where a run's records go."""
    table = manifest.run_table
    door = table if manifest.select is None else f"{table}_in"
    trial = None if manifest.select is None else f"{table}_try"
    return Destination(manifest.run, FENCE, LETTERS, {manifest.record: door, "DeadLetter": LETTERS}, True, trial)


def make_tables(writer: ClickHouseWriter, manifest: Manifest) -> None:
    """The run's tables, those that are not there yet. Raises ReplayRefused where the live table is not what it was."""
    live = definition_of(writer, manifest.table)
    if live.sha256 != manifest.table_sha256:
        raise ReplayRefused(f"{manifest.table} has changed since {manifest.run} was planned: plan it again")
    table = manifest.run_table
    own = live.sql.replace(LIVE_FENCE_SQL, RUN_FENCE_SQL).replace(f"'held', '{manifest.table}')", f"'held', '{table}')")
    writer.command(_named(own, table), _COMMENT)
    if manifest.select is not None:
        for statement in _computing(writer, own, live, manifest):
            writer.command(statement, _COMMENT)


def drop_tables(writer: ClickHouseWriter, run: str) -> None:
    """All tables of a run, those that there are."""
    table = run_table(run)
    for name in (f"{table}_mv", f"{table}_try_mv", f"{table}_in", f"{table}_try", f"{table}_out", table):
        writer.command(f"DROP TABLE IF EXISTS {name} SYNC", _COMMENT)


def computed_columns(writer: ClickHouseWriter, live: Definition, select: str) -> tuple[str, ...]:
    """The columns that a select list computes, in its order. Raises WrongQuestion where it is none, or names what it may not."""
    asked = f"SELECT {select} FROM {_quoted(live.table)} {_SETTINGS}"  # noqa: S608 - a person's own question
    try:
        answer = writer.query(f"DESCRIBE ({asked}) FORMAT TabSeparatedRaw")
    except Refused as refusal:
        raise WrongQuestion(f"--select is no list that {live.table} can answer: {refusal.text[:_ERROR_CHARS_MAX]}") from refusal
    names = tuple(line.split("\t")[0] for line in answer.decode().splitlines())
    if unknown := [name for name in names if name not in live.stored]:
        raise WrongQuestion(f"--select: {live.table} has no column {', '.join(unknown)}: add it by a migration, or name it by AS")
    if own := [name for name in names if name.startswith("_")]:
        raise WrongQuestion(f"--select: {', '.join(own)} say where a record stands, and stay as they are; leave * out")
    if len(set(names)) < len(names):
        raise WrongQuestion("--select names a column twice: columns that are not named stay as they are, so leave * out")
    return names


def _computing(writer: ClickHouseWriter, own: str, live: Definition, manifest: Manifest) -> list[str]:
    """What makes the tables through which computed columns go."""
    assert manifest.select is not None, "asked for runs that compute only"
    table, select = manifest.run_table, manifest.select
    computed = computed_columns(writer, live, select)
    kept = [_quoted(name) for name in live.stored if name not in computed]
    listed = ", ".join([*kept, select])
    door = _INDEX.sub("", own[: own.rindex("\nENGINE")]) + "\nENGINE = Null"
    unguarded = _GUARD.sub("DEFAULT 0", door)
    return [
        _named(door, f"{table}_in"),
        _named(unguarded, f"{table}_try"),
        _named(unguarded, f"{table}_out"),
        _pushing(f"{table}_mv", f"{table}_in", listed, table),
        _pushing(f"{table}_try_mv", f"{table}_try", listed, f"{table}_out"),
    ]


def _pushing(view: str, door: str, listed: str, into: str) -> str:
    return f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view} TO {into} AS SELECT {listed} FROM {door} {_SETTINGS}"  # noqa: S608


def _named(sql: str, table: str) -> str:
    return _HEAD.sub(f"CREATE TABLE IF NOT EXISTS {table}", sql, count=1)


def _quoted(table: str) -> str:
    return "`" + table.replace("\\", "\\\\").replace("`", "\\`") + "`"
