"""ClickHouse's own way: a table with the Kafka engine, its format AvroConfluent, and a view that pumps it into a plain table.

The engine runs inside this process on a directory of its own that is thrown away: with such a table in it, it does not open
again.
"""

import os
import tempfile
import threading
from collections.abc import Callable

from chdb.state.sqlitelike import Connection

from tests.benchmarks.meter import Meter
from tests.benchmarks.workloads import PEER_TABLE, Workload, columns_sql, peer_table_sql

BLOCK_ROWS = 20_000
"""Rows show block by block: small enough for several to count, large enough for an insert to cost a row next to nothing."""
_LOOK_S = 0.02
_QUEUE = """
CREATE TABLE queue ({columns}) ENGINE = Kafka SETTINGS
    kafka_broker_list = '{bootstrap}', kafka_topic_list = '{topic}', kafka_group_name = '{group}',
    kafka_format = 'AvroConfluent', format_avro_schema_registry_url = '{registry}',
    kafka_num_consumers = {consumers}, kafka_thread_per_consumer = 1, kafka_max_block_size = {block_rows}
"""
_PUMP = f"CREATE MATERIALIZED VIEW pump TO {PEER_TABLE} AS SELECT _partition, _offset, _timestamp_ms AS _kafka_time, * FROM queue"


def kafka_table(consumers: int) -> Callable[[Workload, Meter], None]:
    """A contender with so many consumers, each with a thread and an insert of its own."""

    def run(workload: Workload, meter: Meter) -> None:
        with tempfile.TemporaryDirectory(prefix="tailrace-bench-engine-", ignore_cleanup_errors=True) as directory:
            _pump(Connection(directory), workload, consumers, meter)

    return run


def _pump(engine: Connection, workload: Workload, consumers: int, meter: Meter) -> None:
    for statement in ("CREATE DATABASE bench", "USE bench", peer_table_sql(workload)):
        engine.query(statement)
    _make_queue(engine, _queue_sql(workload, consumers))
    engine.query(_PUMP)
    _count(engine, meter)


def _count(engine: Connection, meter: Meter) -> None:
    """From the first block that shows: what it took to come, and what is on its way at the end, are about the same."""
    seen = 0
    while not meter.done:
        rows = _number(engine, f"SELECT count() FROM {PEER_TABLE}")
        if seen:
            meter.note(rows - seen)
        elif rows:
            meter.start()
        seen = rows
        threading.Event().wait(_LOOK_S)


def _queue_sql(workload: Workload, consumers: int) -> str:
    return _QUEUE.format(
        columns=columns_sql(workload.columns),
        bootstrap=os.environ["TAILRACE_KAFKA_BOOTSTRAP"],
        topic=os.environ["TAILRACE_TOPIC_PREFIX"] + workload.topic.name,
        group=os.environ["TAILRACE_SINK_GROUP"],
        registry=os.environ["TAILRACE_REGISTRY_URL"],
        consumers=consumers,
        block_rows=BLOCK_ROWS,
    )


def _make_queue(engine: Connection, statement: str) -> None:
    """The embedded engine makes the table, starts it, and then answers "Shutdown was called" all the same."""
    try:
        engine.query(statement)
    except RuntimeError as error:
        if "Shutdown was called" not in str(error) or not _number(engine, "EXISTS TABLE queue"):
            raise


def _number(engine: Connection, sql: str) -> int:
    return int(engine.query(sql, "TabSeparated").bytes())
