"""Rows in the real warehouse without a broker: events go in as the sink puts them, enveloped, under a fence of the test's own."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import count
from urllib.parse import urlencode
from uuid import UUID

import fastavro
import pytest
import urllib3

from analytics.config import AnalyticsConfig
from analytics.warehouse import Warehouse
from schemas.codec import parse_physical
from schemas.contracts import contract
from schemas.envelope import FIELD, Source, enveloped_schema, fence_key, pack_position
from schemas.events import Record
from schemas.tables import TABLE_OF_RECORD

KAFKA_TIME_MS = 1_790_000_000_000


class Ingest:
    """Writes records into the raw tables. Every call takes the next offsets of one partition of a topic that exists here only."""

    def __init__(self, url: str) -> None:
        parts = urllib3.util.parse_url(url)
        self._pool = urllib3.PoolManager(headers=urllib3.make_headers(basic_auth=parts.auth or "default:"))
        self._url = f"{parts.scheme}://{parts.host}:{parts.port}/"
        self._database = (parts.path or "/default").strip("/")
        self._topic_id, self._owner = UUID(bytes=os.urandom(16)), os.urandom(16)
        self._offsets = count()
        key = fence_key(self._topic_id, 0)
        self._post(f"INSERT INTO ingest_fence VALUES (unhex('{key.hex()}'), unhex('{self._owner.hex()}'))")

    def write(self, records: Sequence[Record]) -> None:
        """Inserts `records`, all of one type, at the next offsets."""
        if not records:
            return
        record = type(records[0]).__name__
        schema = contract(record).newest
        head = Source(self._owner, self._topic_id, 0, 1, "live").head()
        rows = [
            {FIELD: head + pack_position(at, KAFKA_TIME_MS + at), **dataclasses.asdict(row)}
            for at, row in zip(self._offsets, records, strict=False)
        ]
        body = BytesIO()
        fastavro.writer(body, parse_physical(enveloped_schema(schema.schema)), rows, codec="null", sync_interval=1 << 30)
        columns = ", ".join([FIELD, *(field["name"] for field in schema.schema["fields"])])
        self._post(f"INSERT INTO {TABLE_OF_RECORD[record]} ({columns}) FORMAT Avro", body.getvalue())

    def close(self) -> None:
        self._pool.clear()

    def _post(self, sql: str, body: bytes = b"") -> None:
        fields = {"query": sql, "database": self._database}
        url = f"{self._url}?{urlencode(fields)}"
        answer = self._pool.request("POST", url, body=body, timeout=60, retries=False)
        assert answer.status == 200, answer.data.decode(errors="replace")


@pytest.fixture
def ingest(installation: Mapping[str, str]) -> Iterator[Ingest]:
    door = Ingest(installation["TAILRACE_WAREHOUSE_URL"])
    yield door
    door.close()


@pytest.fixture
def warehouse(installation: Mapping[str, str]) -> Iterator[Warehouse]:
    with Warehouse(AnalyticsConfig.from_environment(installation)) as opened:
        yield opened
