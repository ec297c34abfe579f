"""The database and the tables of an installation in its warehouse, by numbered migrations that only go forward."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from deploy.outcome import Outcome, Problem
from deploy.settings import Installation
from schemas.environment import public_address
from schemas.errors import ContractError, PartUnreachable
from schemas.tables import LEDGER, LEDGER_SQL, Migration, load_migrations

WAREHOUSE_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
_TABLE_ALREADY_EXISTS = 57
_DUPLICATE_COLUMN = 15
_UNKNOWN_DATABASE = 81
_UNKNOWN_TABLE = 60


def provision_tables(installation: Installation) -> Outcome:
    """Make the database, and apply the migrations that it has not seen.

    Raises PartUnreachable; ContractError where a migration has changed since it was applied, or the warehouse knows more of them
    than this version of Tailrace.
    """
    migrations = load_migrations()
    try:
        with closing(_client(installation)) as client:
            _enter_database(client, database_of(installation))
            client.command(LEDGER_SQL)
            applied = _applied(client)
            refuse_rewritten(migrations, applied)
            pending = [migration for migration in migrations if migration.number not in applied]
            for migration in pending:
                _apply(client, migration)
    except ClickHouseError as error:
        raise _unreachable(installation, error) from error
    return Outcome("tables", tuple(f"{migration.number:04d} {migration.name}" for migration in pending))


def examine_tables(installation: Installation) -> list[Problem]:
    """What is wrong with the tables. Raises PartUnreachable."""
    try:
        with closing(_client(installation)) as client:
            client.database = database_of(installation)
            where = public_address(installation.warehouse_url)
            return [*_problems(_applied(client), where), *_holds(client, where)]
    except ClickHouseError as error:
        if not isinstance(error, DatabaseError) or error.code not in {_UNKNOWN_DATABASE, _UNKNOWN_TABLE}:
            raise _unreachable(installation, error) from error
        remedy = f"run `tailrace up`; the warehouse says {_first_line(error)!r}"
        return [Problem("the tables are not there", public_address(installation.warehouse_url), remedy)]


def database_of(installation: Installation) -> str:
    return urlsplit(installation.warehouse_url).path.strip("/") or "default"


def refuse_rewritten(migrations: Sequence[Migration], applied: dict[int, str]) -> None:
    """`applied` maps the numbers that a warehouse has seen to the sums that they had then. Raises ContractError."""
    sums = {migration.number: migration for migration in migrations}
    for number, sha256 in sorted(applied.items()):
        if number not in sums:
            raise ContractError(f"the warehouse has seen migration {number:04d}, which this version lacks: use a newer Tailrace")
        if sums[number].sha256 != sha256:
            message = "has changed since the warehouse applied it: restore the file, and put the change into a new migration"
            raise ContractError(f"{number:04d}_{sums[number].name}.sql {message}")


def _client(installation: Installation) -> Client:
    """A client that names no database yet: it may have to be made."""
    without_database = urlsplit(installation.warehouse_url)._replace(path="").geturl()
    return clickhouse_connect.get_client(
        dsn=without_database,
        connect_timeout=CONNECT_TIMEOUT_S,
        send_receive_timeout=WAREHOUSE_TIMEOUT_S,
        settings=dict(installation.warehouse_options),
    )


def _enter_database(client: Client, database: str) -> None:
    quoted = database.replace("`", "``")
    client.command(f"CREATE DATABASE IF NOT EXISTS `{quoted}`")
    client.database = database


def _applied(client: Client) -> dict[int, str]:
    rows = client.query(f"SELECT number, toString(sha256) FROM {LEDGER} FINAL").result_rows  # noqa: S608 - a constant of ours
    return {int(number): str(sha256) for number, sha256 in rows}


def _apply(client: Client, migration: Migration) -> None:
    for statement in migration.statements:
        _carry_out(client, statement)
    row = {"number": migration.number, "name": migration.name, "sha256": migration.sha256}
    insert = f"INSERT INTO {LEDGER} (number, name, sha256) VALUES ({{number:UInt32}}, {{name:String}}, {{sha256:String}})"  # noqa: S608
    client.command(insert, parameters=row)


def _carry_out(client: Client, statement: str) -> None:
    """What an interrupted run, or another one at this moment, has carried out already is not done again."""
    try:
        client.command(statement)
    except DatabaseError as error:
        if error.code not in {_TABLE_ALREADY_EXISTS, _DUPLICATE_COLUMN}:
            raise


def _problems(applied: dict[int, str], where: str) -> Iterator[Problem]:
    migrations = load_migrations()
    try:
        refuse_rewritten(migrations, applied)
    except ContractError as error:
        yield Problem("the migrations do not match", where, str(error))
    for migration in migrations:
        if migration.number not in applied:
            yield Problem(f"migration {migration.number:04d} {migration.name} is not applied", where, "run `tailrace up`")


def _holds(client: Client, where: str) -> Iterator[Problem]:
    """A swap holds a table for a moment; one that died may have left it so."""
    for (table,) in client.query("SELECT table_name FROM ingest_hold WHERE held != 0 ORDER BY table_name").result_rows:
        remedy = "`tailrace replay list` says for what, and how to go on or undo it"
        yield Problem(f"{table} is held: its sinks wait", where, remedy)


def _unreachable(installation: Installation, error: ClickHouseError) -> PartUnreachable:
    remedy = (
        f"it answers {_first_line(error)!r}; check TAILRACE_WAREHOUSE_URL and that it runs (`tailrace status` for a local one)"
    )
    return PartUnreachable("the warehouse", public_address(installation.warehouse_url), remedy)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
