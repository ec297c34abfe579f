"""The ClickHouse engine inside this process. The only file that imports chdb.

One process owns a directory. Every query has a connection of its own, opened for it and closed after it, so that no setting,
database or temporary table of one request can be seen by another; a session's connection is the exception that clients ask for.
Not used here, and why: `send_insert` (reports rows as written that a DEFAULT refused), `send_query` (encodes every block as a
document of its own, and gives nothing for an empty result).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chdb.state.sqlitelike import Connection as EngineConnection

from deploy.local.warehouse_server.config import READER
from deploy.local.warehouse_server.errors import from_engine
from deploy.local.warehouse_server.query import Query, quoted, quoted_identifier, set_statement


class EngineUnopenable(Exception):  # noqa: N818 - says what is the case
    """The directory cannot be opened: another process holds it, or its contents do not load. The engine says which on stderr."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the engine says of a query that it ran to its end."""

    output: bytes
    """A result that did not go into a file: of statements such as KILL QUERY."""
    figures: Mapping[str, int]
    """X-ClickHouse-Summary's counts."""


class Connection:
    """One client's place in the engine: its settings, database, temporary tables. Not shared between threads at one time."""

    def __init__(self, path: str) -> None:
        self._connection = _refusing(lambda: EngineConnection(path))
        self._former: dict[str, str] = {}
        self._former_database: str | None = None

    def prepare(self, query: Query) -> None:
        """Set the database and every setting of the request. Raises ServerError for what the engine does not know."""
        settings = {**query.base, **query.settings}
        self._set(settings if query.read_only is None else {**settings, "readonly": query.read_only})
        self.use(query.database)

    def begin_session(self, query: Query) -> None:
        """What stays for a session's life. Its reader can write in none of its requests."""
        self._set({**query.base, "readonly": "2"} if query.user == READER else query.base)

    def enter_request(self, query: Query) -> None:
        """In a session: set what this request asks for, and put back what earlier ones had asked for and this one does not.

        Values are put back by the next request, not after their own, since most clients ask for the same in every request.
        """
        asked = {name: value for name, value in query.settings.items() if name != "log_comment"}
        self._former |= self._settings([name for name in asked if name not in self._former])
        returned = {name: self._former.pop(name) for name in list(self._former) if name not in asked}
        self._set({**returned, **query.settings})
        if query.database and self._former_database is None:
            self._former_database = self._row("SELECT currentDatabase()")[0]
        self.use(query.database or self._former_database)

    def use(self, database: str | None) -> None:
        if database:
            self.run(f"USE {quoted_identifier(database)}", "TabSeparated", {})

    def _set(self, settings: Mapping[str, str]) -> None:
        if settings:
            self.run(set_statement(settings), "TabSeparated", {})

    def _settings(self, names: Sequence[str]) -> dict[str, str]:
        if not names:
            return {}
        values = ", ".join(f"toString(getSetting({quoted(name)}))" for name in names)
        return dict(zip(names, self._row(f"SELECT {values}"), strict=True))

    def _row(self, sql: str) -> list[str]:
        row: list[str] = json.loads(self.run(sql, "JSONCompactEachRow", {}).output)
        return row

    def classify(self, sql: str) -> tuple[str, int]:
        """The engine's own word for what the text would do (READ_ONLY, MUTATING, CONTROL …), and how many statements it is."""
        report = self._connection._conn.classify_query(sql)  # noqa: SLF001 - the binding offers it nowhere else
        return report["query_class"].name, report["statement_count"]

    def run(self, sql: str, default_format: str, parameters: Mapping[str, str]) -> Outcome:
        result = _refusing(lambda: self._connection.query(sql, default_format, params=dict(parameters)))
        return Outcome(bytes(result.bytes()), _figures(result))

    def close(self) -> None:
        self._connection.close()


class Engine:
    """The open directory. Methods run in threads; each call is on a connection of its own."""

    def __init__(self, directory: Path, server_memory_bytes: int) -> None:
        self._path = str(directory)
        _forget_empty_default(directory)
        try:
            self._root = EngineConnection(f"{self._path}?max_server_memory_usage={server_memory_bytes}")
            self._close_the_file_system(directory)
        except RuntimeError as refused:
            raise EngineUnopenable(str(refused)) from refused
        described = self._root.query("SELECT version(), timezone()", "TabSeparated").bytes().decode()
        self.version, self.timezone = described.strip().split("\t")

    def _close_the_file_system(self, directory: Path) -> None:
        """Make `default` a plain database: as chDB opens it, every path of the machine names a table in it."""
        kept = (directory / "metadata" / "default.sql").exists()
        self._root.query("DETACH DATABASE default")
        self._root.query("ATTACH DATABASE default" if kept else "CREATE DATABASE default ENGINE = Atomic")

    def connect(self) -> Connection:
        return Connection(self._path)

    def cancel(self, tag: str) -> None:
        """Stop the query whose text holds `tag`, if it still runs."""
        connection = self.connect()
        try:
            named = f"position(query, {quoted(tag)}) > 0 AND query_id != queryID()"
            found = connection.run(f"SELECT query_id FROM system.processes WHERE {named}", "TabSeparated", {})  # noqa: S608 - quoted
            for query_id in found.output.decode().split():
                connection.run(f"KILL QUERY WHERE query_id = {quoted(query_id)} ASYNC", "TabSeparated", {})
        finally:
            connection.close()

    def cancel_all(self) -> None:
        """Stop whatever runs."""
        self._root.query("KILL QUERY WHERE query_id != queryID() ASYNC")

    def close(self) -> None:
        self._root.close()


def _forget_empty_default(directory: Path) -> None:
    """The engine cannot attach a `default` in which there is no table (Code 49, "Cannot find UUID mapping"): it is made anew."""
    kept = directory / "metadata" / "default.sql"
    if not kept.exists():
        return
    found = re.search(r"UUID '(?P<uuid>[^']+)'", kept.read_text(encoding="utf-8"))
    if found and not any((directory / "store" / found["uuid"][:3] / found["uuid"]).glob("*.sql")):
        kept.unlink()


class _Result(Protocol):
    def storage_rows_read(self) -> int: ...
    def storage_bytes_read(self) -> int: ...
    def rows_read(self) -> int: ...
    def bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...
    def elapsed(self) -> float: ...


def _figures(result: _Result) -> dict[str, int]:
    return {
        "read_rows": result.storage_rows_read(),
        "read_bytes": result.storage_bytes_read(),
        "written_rows": result.rows_written(),
        "written_bytes": result.bytes_written(),
        "result_rows": result.rows_read(),
        "result_bytes": result.bytes_read(),
        "elapsed_ns": int(result.elapsed() * 1e9),
    }


def _refusing(call: Callable[[], Any]) -> Any:
    """`call`'s result; the engine's exceptions as ServerError. chdb.ChdbError is a RuntimeError.

    An error that quotes bytes which are no text fails in chDB's binding, and holds the engine's words as its object.
    """
    try:
        return call()
    except UnicodeDecodeError as quoting:
        raise from_engine(quoting.object.decode(errors="replace")) from quoting
    except RuntimeError as refused:
        raise from_engine(str(refused)) from refused
