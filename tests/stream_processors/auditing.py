"""Audits of what a test has brought in, and what they say."""

import subprocess

from confluent_kafka.admin import AdminClient

from schemas.topics import INTERACTIONS
from stream_processors.audit.config import AuditConfig
from stream_processors.audit.emitters import StreamReport, TopicReport
from stream_processors.audit.main import audit
from stream_processors.audit.report import Report
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench

LIMIT_S = 60


def audited(bench: Bench, **variables: str) -> Report:
    return audit(AuditConfig.from_environment({**bench.environment, **variables}))


def total(report: Report, what: str) -> int:
    return sum(getattr(partition, what).count for partition in report.partitions)


def producers(report: Report) -> dict[int, StreamReport]:
    return {stream.producer_id.int: stream for stream in report.streams}


def topic_of(report: Report) -> TopicReport:
    [found] = [topic for topic in report.topics if topic.topic == INTERACTIONS.name]
    return found


def run(bench: Bench, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`tailrace audit` as a user runs it."""
    return subprocess.run(
        bench.command("audit", *arguments),
        env={**bench.environment, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def admin(bench: Bench) -> AdminClient:
    return AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})


def forget_offsets(bench: Bench) -> None:
    client = admin(bench)
    [answer] = client.delete_consumer_groups([f"{bench.prefix}warehouse"]).values()
    answer.result(FLUSH_LIMIT_S)
