"""Reading what the warehouse has, past the proxy. Merging is switched off, so that copies stay to be seen."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from schemas.topics import INTERACTIONS, RECOMMENDATIONS
from tests.faults.ledger import Coordinates
from tests.faults.records import table_of
from tests.faults.verdict import Found, Gap

ANSWER_TIMEOUT_S = 120
ROW_TABLES = (table_of(INTERACTIONS), table_of(RECOMMENDATIONS))
TABLES = (*ROW_TABLES, "dead_letters")
_NO_MERGES = """
ALTER TABLE {table} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1,
parts_to_delay_insert = 100000, parts_to_throw_insert = 100000
"""
_NUMBER = "reinterpretAsUInt64(reverse(substring(UUIDToNum(event_id), 11, 6)))"
_ROWS = "SELECT toString(_topic_id), _partition, _offset, toUInt64({number}) FROM {table}"


class Warehouse:
    """One installation's."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._url = variables["TAILRACE_WAREHOUSE_URL"]

    def prepare(self) -> None:
        """Keep every copy, and have the column of Interaction's second version."""
        for table in TABLES:
            self.command(_NO_MERGES.format(table=table))
        self.command("ALTER TABLE interactions ADD COLUMN IF NOT EXISTS channel String DEFAULT 'web'")

    def found(self) -> Found:
        with closing(self._client()) as client:
            return Found(
                rows={table: self._coordinates(client, _ROWS.format(number=_NUMBER, table=table)) for table in ROW_TABLES},
                final={table: int(_rows(client, f"SELECT count() FROM {table} FINAL")[0][0]) for table in TABLES},
                once={table: _column(client, f"SELECT toUInt64({_NUMBER}) FROM {table}_once") for table in ROW_TABLES},
                letters=self._coordinates(client, _ROWS.format(number="CRC32(ifNull(value, ''))", table="dead_letters")),
                gaps=[Gap(*row) for row in _rows(client, _GAPS)],
                exposed_requests=int(_rows(client, "SELECT sum(exposed_requests) FROM exposures")[0][0]),
            )

    def rows(self) -> int:
        with closing(self._client()) as client:
            return sum(int(_rows(client, f"SELECT count() FROM {table}")[0][0]) for table in TABLES)

    def topic_ids(self) -> set[str]:
        """Of all topics that a sink has ever seen."""
        with closing(self._client()) as client:
            return {topic_id for (topic_id,) in _rows(client, "SELECT DISTINCT toString(_topic_id) FROM ingest_topics")}

    def command(self, statement: str) -> None:
        with closing(self._client()) as client:
            client.command(statement)

    def _coordinates(self, client: Client, statement: str) -> list[tuple[Coordinates, int]]:
        return [
            (Coordinates(topic_id, partition, offset), number) for topic_id, partition, offset, number in _rows(client, statement)
        ]

    def _client(self) -> Client:
        return clickhouse_connect.get_client(dsn=self._url, send_receive_timeout=ANSWER_TIMEOUT_S)


_GAPS = "SELECT toString(_topic_id), _partition, reason, first_offset, end_offset FROM ingest_gaps FINAL"


def _rows(client: Client, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(statement).result_rows]


def _column(client: Client, statement: str) -> list[int]:
    return [int(value) for (value,) in _rows(client, statement)]
