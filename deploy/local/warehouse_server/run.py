"""What an engine thread does for one request: prepare a connection, run the statement on it, let go of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.warehouse_server.engine import Connection, Engine, Outcome
from deploy.local.warehouse_server.errors import QUERY_WAS_CANCELLED, READONLY, SYNTAX_ERROR, ServerError, refusal
from deploy.local.warehouse_server.form import ExternalTable
from deploy.local.warehouse_server.query import Query, quoted_identifier
from deploy.local.warehouse_server.sessions import Session
from deploy.local.warehouse_server.statement import DataInsert, Plain

READING, WRITING = "READ_ONLY", "MUTATING"
"""The engine's own classes of statements that matter here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request runs: on a connection of its own, or on its session's."""

    engine: Engine
    session: Session | None
    tables: tuple[ExternalTable, ...]
    """What the request brought along, as temporary tables of its own."""
    transit: Path

    @contextmanager
    def prepared(self, query: Query) -> Iterator[Connection]:
        """A connection that is set as the request says, with its external tables."""
        with self._connection(query) as connection:
            for table in self.tables:
                self._load(connection, table)
            try:
                yield connection
            finally:
                for table in self.tables:
                    connection.run(f"DROP TEMPORARY TABLE IF EXISTS {quoted_identifier(table.name)}", "Null", {})

    @contextmanager
    def _connection(self, query: Query) -> Iterator[Connection]:
        if self.session is not None:
            connection = self._sessions_connection(self.session, query)
            connection.enter_request(query)
            yield connection
            return
        connection = self.engine.connect()
        try:
            connection.prepare(query)
            yield connection
        finally:
            connection.close()

    def _load(self, connection: Connection, table: ExternalTable) -> None:
        name, rows = quoted_identifier(table.name), self.transit.with_suffix(".table")
        rows.write_bytes(table.rows)
        try:
            connection.run(f"CREATE TEMPORARY TABLE {name} ({table.structure}) ENGINE = Memory", "Null", {})
            connection.run(f"INSERT INTO {name} FROM INFILE '{rows}' COMPRESSION 'none' FORMAT {table.format}", "Null", {})
        finally:
            rows.unlink()

    def _sessions_connection(self, session: Session, query: Query) -> Connection:
        if session.connection is None:
            connection = self.engine.connect()
            connection.begin_session(query)
            session.connection = connection
        return session.connection


def run_insert(place: Place, query: Query, insert: DataInsert, data: Path) -> Outcome:
    if query.read_only is not None and place.session is not None:
        raise _read_only(query)
    with place.prepared(query) as connection:
        return connection.run(insert.from_file(str(data)), query.default_format, query.parameters)


def run_plain(place: Place, query: Query, statement: Plain, pipe: Path, abandoned: threading.Event) -> Outcome:
    """The result goes into `pipe` where the statement reads, and into the outcome where it does anything else."""
    with place.prepared(query) as connection:
        if abandoned.is_set():
            raise refusal(QUERY_WAS_CANCELLED, "The client left before its query began.")
        text = statement.as_it_stands()
        kind, count = connection.classify(text)
        if count > 1:
            raise refusal(
                SYNTAX_ERROR,
                f"Syntax error (Multi-statements are not allowed): the request holds {count} statements; send one a request.",
            )
        if kind == READING:
            text = statement.into_file(str(pipe))
        elif kind == WRITING and query.read_only is not None and place.session is not None:
            raise _read_only(query)
        return connection.run(text, query.default_format, query.parameters)


def _read_only(query: Query) -> ServerError:
    """For sessions, whose connection cannot be set read-only for one request; elsewhere the engine says it."""
    return refusal(READONLY, f"{query.user}: Cannot execute query in readonly mode.")
