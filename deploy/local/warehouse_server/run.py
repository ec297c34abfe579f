"""What an engine thread does for one request: prepare a connection, run the statement on it, let go of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.warehouse_server.engine import Connection, Engine, Outcome
from deploy.local.warehouse_server.errors import QUERY_WAS_CANCELLED, SYNTAX_ERROR, refusal
from deploy.local.warehouse_server.query import Query
from deploy.local.warehouse_server.statement import DataInsert, Plain


@contextmanager
def prepared(engine: Engine, query: Query) -> Iterator[Connection]:
    """A connection that is set as the request says."""
    connection = engine.connect()
    try:
        connection.prepare(query)
        yield connection
    finally:
        connection.close()


def run_insert(engine: Engine, query: Query, insert: DataInsert, data: Path) -> Outcome:
    with prepared(engine, query) as connection:
        return connection.run(insert.from_file(str(data)), query.default_format, query.parameters)


def run_plain(engine: Engine, query: Query, statement: Plain, pipe: Path, abandoned: threading.Event) -> Outcome:
    """The result goes into `pipe` where the statement reads, and into the outcome where it does anything else."""
    with prepared(engine, query) as connection:
        if abandoned.is_set():
            raise refusal(QUERY_WAS_CANCELLED, "The client left before its query began.")
        text = statement.as_it_stands()
        kind, count = connection.classify(text)
        if count > 1:
            raise refusal(
                SYNTAX_ERROR,
                f"Syntax error (Multi-statements are not allowed): the request holds {count} statements; send one a request.",
            )
        if kind == "READ_ONLY":
            text = statement.into_file(str(pipe))
        return connection.run(text, query.default_format, query.parameters)
