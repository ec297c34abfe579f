"""Rows in the real warehouse without a broker: events go in as the sink puts them, enveloped, under a fence of the test's own."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import fastavro
import urllib3

from schemas.contracts import AvroSchema, contract
from schemas.envelope import FIELD, Source, enveloped_schema, fence_key, pack_position
from schemas.events import Event, ExperimentDefinition, Micros, ProducerCheckpoint
from schemas.tables import TABLE_OF_RECORD

TRANSPORT_MS = 5

Written = Event | ExperimentDefinition | ProducerCheckpoint


class Ingest:
    """Writes records into the raw tables. Every call takes the next offsets of one partition of a topic that exists here only."""

    def __init__(self, url: str, partition: int = 0) -> None:
        parts = urllib3.util.parse_url(url)
        self._pool = urllib3.PoolManager(headers=urllib3.make_headers(basic_auth=parts.auth or "default:"))
        self._url = f"{parts.scheme}://{parts.host}:{parts.port}/"
        self._database = (parts.path or "/default").strip("/")
        self._topic_id, self._owner = UUID(bytes=os.urandom(16)), os.urandom(16)
        self._partition, self._next_offset = partition, 0
        key = fence_key(self._topic_id, partition)
        self._post(f"INSERT INTO ingest_fence VALUES (unhex('{key.hex()}'), unhex('{self._owner.hex()}'))")

    def write(
        self, records: Sequence[Written], first_offset: int | None = None, taken_at: Micros | None = None, run: str = "live"
    ) -> int:
        """Inserts `records`, all of one type, from `first_offset` on, or at the next ones. Returns the first one's offset.

        Kafka took them at `taken_at`, or each a little after it happened.
        """
        record = type(records[0]).__name__
        times_ms = [_kafka_time_ms(row, taken_at) for row in records]
        return self.write_under(
            contract(record).newest.schema, [dataclasses.asdict(row) for row in records], times_ms, first_offset, run
        )

    def write_under(
        self,
        writer: AvroSchema,
        data: Sequence[Mapping[str, Any]],
        times_ms: Sequence[int],
        first_offset: int | None = None,
        run: str = "live",
    ) -> int:
        """The same for any version of a contract."""
        start = self._next_offset if first_offset is None else first_offset
        self._next_offset = max(self._next_offset, start + len(data))
        head = Source(self._owner, self._topic_id, self._partition, 1, run).head()
        rows = [
            {FIELD: head + pack_position(offset, time_ms + offset), **row}
            for offset, (row, time_ms) in enumerate(zip(data, times_ms, strict=True), start)
        ]
        body = BytesIO()
        fastavro.writer(body, fastavro.parse_schema(enveloped_schema(writer)), rows, sync_interval=1 << 30)
        columns = ", ".join([FIELD, *(field["name"] for field in writer["fields"])])
        self._post(f"INSERT INTO {TABLE_OF_RECORD[writer['name']]} ({columns}) FORMAT Avro", body.getvalue())
        return start

    def close(self) -> None:
        self._pool.clear()

    def _post(self, sql: str, body: bytes = b"") -> None:
        fields = {"query": sql, "database": self._database}
        url = f"{self._url}?{urlencode(fields)}"
        answer = self._pool.request("POST", url, body=body, timeout=60, retries=False)
        assert answer.status == 200, answer.data.decode(errors="replace")


def _kafka_time_ms(record: Written, taken_at: Micros | None) -> int:
    happened_at = record.changed_at if isinstance(record, ExperimentDefinition) else record.occurred_at
    return (happened_at if taken_at is None else taken_at) // 1000 + TRANSPORT_MS
