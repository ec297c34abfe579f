"""What the tests of the sink do to an installation: write as others would, run the sink, look into the warehouse."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import clickhouse_connect
import urllib3
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.events import EventId, Interaction, ItemId, Micros, ProducerId, Traffic, UnitId
from schemas.topics import INTERACTIONS, TOPICS, subject

DRAIN_LIMIT_S = 120
FLUSH_LIMIT_S = 30
CLASSIC = "group.protocol=classic,session.timeout.ms=1000,heartbeat.interval.ms=300"
"""Options of a sink whose death is soon seen."""


@dataclass(frozen=True)
class Bench:
    """An installation, by its TAILRACE_* variables."""

    environment: Mapping[str, str]

    @property
    def prefix(self) -> str:
        return self.environment["TAILRACE_TOPIC_PREFIX"]

    def topic(self, name: str = INTERACTIONS.name) -> str:
        return self.prefix + name

    def registry(self) -> SchemaRegistryClient:
        return SchemaRegistryClient({"url": self.environment["TAILRACE_REGISTRY_URL"]})

    def schema_id(self, record: str) -> int:
        [topic] = [topic for topic in TOPICS if topic.record == record]
        schema = Schema(contract(record).newest.text, "AVRO")
        with self.registry() as registry:
            found: int | None = registry.lookup_schema(subject(self.prefix, topic), schema).schema_id
        assert found is not None
        return found

    def produce(self, values: Iterable[bytes | None], topic: str | None = None, **options: Any) -> None:
        """Write raw values, spread over the partitions by a running key."""
        producer = Producer({"bootstrap.servers": self.environment["TAILRACE_KAFKA_BOOTSTRAP"], **options})
        for index, value in enumerate(values):
            producer.produce(topic or self.topic(), value, key=f"u{index}")
        assert producer.flush(FLUSH_LIMIT_S) == 0

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deploy.cli", *arguments]

    def drain(self, **variables: str) -> dict[str, Any]:
        """Run `tailrace sink --drain --json` as a user does."""
        done = subprocess.run(
            self.command("sink", "--drain", "--json"),
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=DRAIN_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def warehouse(self) -> Client:
        return clickhouse_connect.get_client(dsn=self.environment["TAILRACE_WAREHOUSE_URL"])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        client = self.warehouse()
        try:
            return [tuple(row) for row in client.query(sql).result_rows]
        finally:
            client.close()

    def command_sql(self, sql: str) -> None:
        client = self.warehouse()
        try:
            client.command(sql)
        finally:
            client.close()

    def counts(self, table: str = "interactions") -> tuple[int, int]:
        """(rows, different coordinates), without FINAL: copies would show."""
        [(rows, coordinates)] = self.rows(f"SELECT count(), uniqExact(_topic_id, _partition, _offset) FROM {table}")
        return rows, coordinates


def interaction(number: int) -> Interaction:
    return Interaction(
        occurred_at=Micros(1_700_000_000_000_000 + number),
        unit_type="user",
        unit_id=UnitId(f"u{number}"),
        traffic=Traffic.LIVE,
        surface="home",
        item_id=ItemId(f"i{number % 7}"),
        kind="click",
        event_id=EventId(f"018f0000-0000-7000-8000-{number:012x}"),
        producer_id=ProducerId("018f0000-0000-7000-8000-ffffffffffff"),
        producer_seq=number,
    )


def interactions(bench: Bench, count: int, first: int = 0) -> list[bytes]:
    codec, schema_id = Codec(Interaction), bench.schema_id("Interaction")
    return [codec.encode(interaction(number), schema_id) for number in range(first, first + count)]


def metric(port: int, name: str) -> float | None:
    """The figure `name` of the process that serves its metrics on `port`, None while it does not."""
    try:
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}/metrics", retries=False, timeout=5)
    except urllib3.exceptions.HTTPError:
        return None
    found = [line.split()[1] for line in answer.data.decode().splitlines() if line.startswith(f"{name} ")]
    return float(found[0]) if found else None
