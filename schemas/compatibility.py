"""The gate that a change of the contracts must pass, offline.

Two questions: does every version read every other, both ways (FULL_TRANSITIVE, by the `avro` package's checker), and can the
warehouse take the newest version as it is, column by column, default by default.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from schemas.columns import column_type, default_expression, same_column
from schemas.contracts import AVRO_DIRECTORY, Contract, Version, load_contracts
from schemas.errors import ContractError
from schemas.tables import TABLE_OF_RECORD, WAREHOUSE_DIRECTORY, Column, load_tables


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to refuse. `where` is a file, or a file and a field."""

    where: str
    message: str


def check(avro_directory: Path = AVRO_DIRECTORY, warehouse_directory: Path = WAREHOUSE_DIRECTORY) -> list[Finding]:
    """All that is wrong, an empty list where the contracts may be released."""
    try:
        contracts = load_contracts(avro_directory)
        tables = load_tables(warehouse_directory)
        return check_against(contracts, tables)
    except ContractError as error:
        return [Finding(str(avro_directory), str(error))]


def check_against(contracts: Mapping[str, Contract], tables: Mapping[str, Mapping[str, Column]]) -> list[Finding]:
    """What `check` says, of tables that need not exist yet."""
    return [finding for contract in contracts.values() for finding in _check_contract(contract, tables)]


def _check_contract(contract: Contract, tables: Mapping[str, Mapping[str, Column]]) -> Iterator[Finding]:
    for version in contract.versions:
        yield from _check_types(version)
    for older, newer in itertools.combinations(contract.versions, 2):
        yield from _check_pair(older, newer)
        yield from _check_nested(older, newer)
    table = TABLE_OF_RECORD.get(contract.record)
    if table is not None:
        yield from _check_table(contract.newest, table, tables.get(table, {}))


def _check_types(version: Version) -> Iterator[Finding]:
    for field in version.schema["fields"]:
        try:
            column_type(field["type"])
            if "default" in field:
                default_expression(field["type"], field["default"])
        except ContractError as error:
            yield Finding(f"{version.path.name}: {field['name']}", f"the warehouse cannot take it: {error}")


def _check_pair(older: Version, newer: Version) -> Iterator[Finding]:
    for reader, writer in ((newer, older), (older, newer)):
        result = ReaderWriterCompatibilityChecker().get_compatibility(_parsed(reader), _parsed(writer))
        if result.compatibility is SchemaCompatibilityType.compatible:
            continue
        for message, location in zip(sorted(result.messages), sorted(result.locations), strict=False):
            yield Finding(newer.path.name, f"{reader.path.name} cannot read {writer.path.name}: {message} at {location}")


def _check_nested(older: Version, newer: Version) -> Iterator[Finding]:
    """Records inside an array are one Tuple column; the engine takes a Tuple only with exactly its elements."""
    before = {field["name"]: field["type"] for field in older.schema["fields"]}
    for field in newer.schema["fields"]:
        was = before.get(field["name"])
        if was is not None and _tuple_type(was) != _tuple_type(field["type"]):
            message = f"the nested record differs from {older.path.name}'s, which the warehouse cannot take in one column"
            yield Finding(f"{newer.path.name}: {field['name']}", message)


def _tuple_type(avro: Any) -> str | None:
    try:
        clickhouse = column_type(avro)
    except ContractError:
        return None
    return clickhouse if "Tuple(" in clickhouse else None


def _check_table(version: Version, table: str, columns: Mapping[str, Column]) -> Iterator[Finding]:
    for field in version.schema["fields"]:
        where = f"{version.path.name}: {field['name']}"
        column = columns.get(field["name"])
        if column is None:
            yield Finding(where, f"the table {table} has no such column: add it by a migration")
        else:
            yield from _check_column(where, field, column)


def _check_column(where: str, field: dict[str, Any], column: Column) -> Iterator[Finding]:
    try:
        wanted = column_type(field["type"])
    except ContractError:
        return  # said by _check_types
    if not same_column(column.type, wanted):
        yield Finding(where, f"the column is {column.type}, the field needs {wanted}")
    if "default" in field:
        yield from _check_default(where, field, column)


def _check_default(where: str, field: dict[str, Any], column: Column) -> Iterator[Finding]:
    try:
        wanted = default_expression(field["type"], field["default"])
    except ContractError:
        return  # said by _check_types
    if column.default != wanted and not (column.default is None and _types_own(field["default"], column)):
        said = column.default or "the type's own"
        yield Finding(where, f"the default is {wanted}, the column's is {said}: absent fields would change")


def _types_own(avro: Any, column: Column) -> bool:
    return avro is None if "Nullable(" in column.type.split("Tuple(")[0] else avro in (0, "", False, [], {})


def _parsed(version: Version) -> avro.schema.Schema:
    return avro.schema.parse(version.text)
