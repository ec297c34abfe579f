"""The warehouse's tables: numbered, forward-only SQL, and which record each table takes.

A migration is a file `warehouse/<nnnn>_<name>.sql`; statements end with a semicolon at the end of a line, and a table's columns
stand one a line, so that they can be read here without a SQL parser. A test compares what is read with what the engine made.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas.errors import ContractError

WAREHOUSE_DIRECTORY = Path(__file__).parent / "warehouse"
LEDGER = "schema_migrations"

LEDGER_SQL = f"""
CREATE TABLE IF NOT EXISTS {LEDGER}
(
    number UInt32,
    name String,
    sha256 FixedString(64),
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree ORDER BY number
"""
"""The table in which a warehouse keeps the numbers of the migrations that it has seen."""

TABLE_OF_RECORD = {
    "RecommendationServed": "recommendations",
    "Interaction": "interactions",
    "ShadowRanking": "shadow_rankings",
    "ExperimentDefinition": "experiment_revisions",
    "ProducerCheckpoint": "producer_checkpoints",
    "DeadLetter": "dead_letters",
}
"""Alerts are for people and stay in their topic."""

_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>\w+)\.sql")
_CREATE = re.compile(r"CREATE TABLE (?P<table>\w+)\n\(\n(?P<body>.*?)\n\)", re.DOTALL)
_ADD = re.compile(r"ALTER TABLE (?P<table>\w+)(?P<body>.*)", re.DOTALL)
_ADD_COLUMN = re.compile(r"ADD COLUMN (?:IF NOT EXISTS )?(?P<column>.*?),?$", re.MULTILINE)
_COLUMN = re.compile(r"\s*(?P<name>\w+) (?P<type>.+?)(?: (?P<kind>DEFAULT|EPHEMERAL)(?: (?P<expression>.+))?)?,?")


@dataclass(frozen=True, slots=True)
class Column:
    """`default` is the DEFAULT expression, None where the type's own default holds."""

    name: str
    type: str
    default: str | None
    ephemeral: bool


@dataclass(frozen=True)
class Migration:
    """One file of SQL. Once a warehouse has applied it, its bytes may not change."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def statements(self) -> tuple[str, ...]:
        bare = re.sub(r"^--.*\n", "", self.text, flags=re.MULTILINE)
        return tuple(statement.strip() for statement in re.split(r";\s*(?:\n|$)", bare) if statement.strip())


def load_migrations(directory: Path = WAREHOUSE_DIRECTORY) -> tuple[Migration, ...]:
    """All migrations, in order. Raises ContractError where a number is missing or a name is off."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ContractError(f"{path.name}: a migration is named <nnnn>_<name>.sql")
        found.append(Migration(int(match["number"]), match["name"], path.read_text(encoding="utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ContractError(f"{directory}: the migrations' numbers should run 1, 2, 3 … without a gap")
    return tuple(found)


def load_tables(directory: Path = WAREHOUSE_DIRECTORY) -> dict[str, dict[str, Column]]:
    """Columns by name by table, as all migrations together make them."""
    return tables_of(load_migrations(directory))


def tables_of(migrations: Sequence[Migration]) -> dict[str, dict[str, Column]]:
    tables: dict[str, dict[str, Column]] = {}
    for migration in migrations:
        for statement in migration.statements:
            _apply(statement, tables)
    return tables


def _apply(statement: str, tables: dict[str, dict[str, Column]]) -> None:
    if created := _CREATE.match(statement):
        columns = [_column(line) for line in created["body"].splitlines() if not line.strip().startswith(("INDEX", "--"))]
        tables[created["table"]] = {column.name: column for column in columns}
    elif altered := _ADD.match(statement):
        for addition in _ADD_COLUMN.finditer(altered["body"]):
            column = _column(addition["column"])
            tables[altered["table"]][column.name] = column


def _column(line: str) -> Column:
    match = _COLUMN.fullmatch(line)
    if match is None:
        raise ContractError(f"not a column: {line.strip()!r}")
    return Column(match["name"], match["type"], match["expression"], match["kind"] == "EPHEMERAL")
