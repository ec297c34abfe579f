"""The next migration, as the contracts ask for it: a column for every field that a new version has added. Pure but for `write`.

Nothing here is applied. The SQL is for review, becomes a numbered file, and `tailrace up` applies that. A default stands in the
column as Avro has it, so that rows without the field, old and new, read as the contract says. What a column cannot follow (a
nested record that grew, another type) is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.columns import column_type, default_expression
from schemas.compatibility import Finding, check_against
from schemas.contracts import AVRO_DIRECTORY, Contract, load_contracts
from schemas.errors import ContractError
from schemas.tables import TABLE_OF_RECORD, WAREHOUSE_DIRECTORY, Column, Migration, load_migrations, tables_of

_VIEW = re.compile(r"CREATE (?:OR REPLACE )?VIEW (?P<name>\w+) AS\n(?P<question>.*)", re.DOTALL)
_ALL_COLUMNS = re.compile(r"^(?:SELECT|   ) \*,?$", re.MULTILINE)
_READ = re.compile(r"\bFROM (\w+)")
_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Addition:
    """The columns that a table lacks for one version of its record."""

    record: str
    version: int
    table: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`migration` is None where nothing is to do, or where `findings` stand against it."""

    additions: tuple[Addition, ...]
    migration: Migration | None
    findings: tuple[Finding, ...]

    @property
    def file_name(self) -> str | None:
        return None if self.migration is None else f"{self.migration.number:04d}_{self.migration.name}.sql"


def plan_migration(avro_directory: Path = AVRO_DIRECTORY, warehouse_directory: Path = WAREHOUSE_DIRECTORY) -> Plan:
    """What the newest contracts need beyond all migrations that there are. Raises ContractError where those cannot be read."""
    contracts = load_contracts(avro_directory)
    migrations = load_migrations(warehouse_directory)
    tables = tables_of(migrations)
    additions = tuple(_additions(contracts, tables))
    findings = tuple(check_against(contracts, _with(additions, tables)))
    if findings or not additions:
        return Plan(additions, None, findings)
    return Plan(additions, _migration(additions, migrations), findings)


def write(migration: Migration, directory: Path = WAREHOUSE_DIRECTORY) -> Path:
    """Put it beside the others, for review. Raises FileExistsError where somebody was faster."""
    path = directory / f"{migration.number:04d}_{migration.name}.sql"
    with path.open("x", encoding="utf-8") as file:
        file.write(migration.text)
    return path


def _additions(contracts: Mapping[str, Contract], tables: Mapping[str, Mapping[str, Column]]) -> Iterator[Addition]:
    for record, table in TABLE_OF_RECORD.items():
        if record in contracts and table in tables:
            newest = contracts[record].newest
            fields = [field for field in newest.schema["fields"] if field["name"] not in tables[table]]
            if columns := tuple(column for field in fields if (column := _column(field))):
                yield Addition(record, newest.number, table, columns)


def _column(field: Mapping[str, object]) -> Column | None:
    """None where there is no such column or default: the gate says why."""
    try:
        kind = column_type(field["type"])
        default = default_expression(field["type"], field["default"]) if "default" in field else None
        return Column(str(field["name"]), kind, None if default == "NULL" else default, ephemeral=False)
    except ContractError:
        return None


def _with(additions: Sequence[Addition], tables: Mapping[str, Mapping[str, Column]]) -> dict[str, Mapping[str, Column]]:
    added = {addition.table: {column.name: column for column in addition.columns} for addition in additions}
    return {table: {**columns, **added.get(table, {})} for table, columns in tables.items()}


def _migration(additions: Sequence[Addition], migrations: Sequence[Migration]) -> Migration:
    name = "_".join(f"{_WORD_STARTS.sub('_', addition.record).lower()}_v{addition.version}" for addition in additions)
    parts = [*map(_alteration, additions), *_views(migrations, {addition.table for addition in additions})]
    return Migration(migrations[-1].number + 1, name, "\n".join(parts))


def _alteration(addition: Addition) -> str:
    columns = ",\n".join(f"    ADD COLUMN IF NOT EXISTS {_definition(column)}" for column in addition.columns)
    head = f"-- What version {addition.version} of {addition.record} added. A row without the field reads as Avro's default."
    return f"{head}\nALTER TABLE {addition.table}\n{columns};\n"


def _definition(column: Column) -> str:
    return f"{column.name} {column.type}" + ("" if column.default is None else f" DEFAULT {column.default}")


def _views(migrations: Sequence[Migration], grown: set[str]) -> Iterator[str]:
    """A view over `*` keeps the columns that it was made with: it is made again, and so are those over it."""
    statements = [statement for migration in migrations for statement in migration.statements]
    newest = {view["name"]: view["question"] for statement in statements if (view := _VIEW.match(statement))}
    for name, question in newest.items():
        if _ALL_COLUMNS.search(question) and grown & set(_READ.findall(question)):
            grown = grown | {name}
            yield f"-- It has the new columns only when it is made again.\nCREATE OR REPLACE VIEW {name} AS\n{question};\n"
