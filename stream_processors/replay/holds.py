"""Holding a table: it takes no insert until it is let go of. Drained after that, nothing moves in it.

The hold is durable and says only that it is on; the log of the run that put it there says why (runs.py). An insert that is
refused for it is tried again by its sink, which owns its partition anew first. A hold that a dead process left is seen by
`tailrace replay list` and lifted by `tailrace replay abort`.
"""

import time

from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Retryable

DRAIN_PATIENCE_S = 5.0
"""Inserts that still run after this long are killed: their sinks own again, and find what is in."""
DRAIN_LIMIT_S = 60.0
_DRAIN_POLL_S = 0.01
_COMMENT = "tailrace hold"

_HELD = "SELECT table_name FROM ingest_hold WHERE held != 0 ORDER BY table_name FORMAT TabSeparated"
_INTO = "(?i)^[[:space:]]*INSERT[[:space:]]+INTO[[:space:]]+(TABLE[[:space:]]+)?(`?[[:word:]]+`?[.])?`?{table}`?[[:space:](]"
"""Without backslashes: a parameter's value is read as escaped text."""
_RUNNING = """
SELECT query_id FROM system.processes
WHERE query_kind = 'Insert' AND match(query, {into:String})
FORMAT TabSeparated
"""


def hold(writer: ClickHouseWriter, table: str) -> None:
    """From its effect on no insert that has not begun passes the check of `table`."""
    _set(writer, table, held=True)


def lift(writer: ClickHouseWriter, table: str) -> None:
    _set(writer, table, held=False)


def held_tables(writer: ClickHouseWriter) -> list[str]:
    return writer.query(_HELD).decode().split()


def drain_table(writer: ClickHouseWriter, table: str) -> None:
    """Wait for the inserts into `table` that run, whoever's they are. Raises Retryable past DRAIN_LIMIT_S."""
    started, killed = time.monotonic(), False
    while running := writer.query(_RUNNING, {"into": _INTO.format(table=table)}).decode().split():
        waited_s = time.monotonic() - started
        if waited_s > DRAIN_LIMIT_S:
            raise Retryable(f"inserts into {table} still run after {DRAIN_LIMIT_S:.0f} s")
        if waited_s > DRAIN_PATIENCE_S and not killed:
            ids = ", ".join(f"'{query_id}'" for query_id in running)
            writer.command(f"KILL QUERY WHERE query_id IN ({ids}) SYNC", _COMMENT)
            killed = True
        time.sleep(_DRAIN_POLL_S)


def _set(writer: ClickHouseWriter, table: str, *, held: bool) -> None:
    writer.command(f"INSERT INTO ingest_hold (table_name, held) VALUES ('{table}', {int(held)})", _COMMENT)  # noqa: S608 - a name of ours
