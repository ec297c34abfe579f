"""Composition root of the auditor: one audit, or one after the other."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from schemas.errors import PartUnreachable
from stream_processors.audit.auditor import Auditor
from stream_processors.audit.clickhouse_reader import ClickHouseReader
from stream_processors.audit.config import AuditConfig
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.audit.metrics import AuditMetrics
from stream_processors.audit.report import Report
from stream_processors.audit.warehouse_view import WarehouseView


def audit(config: AuditConfig) -> Report:
    """One audit. Raises PartUnreachable."""
    with _auditor(config) as auditor:
        return auditor.audit()


def watch(
    config: AuditConfig, wait: Callable[[], bool], tell: Callable[[Report], None], complain: Callable[[PartUnreachable], None]
) -> Report | None:
    """Audit until `wait`, which waits for the next time, says that it is enough. Gives the last audit that came to its end.

    A part that does not answer is complained of, counted, and asked again the next time.
    """
    registry = CollectorRegistry()
    metrics = AuditMetrics(registry)
    last: Report | None = None
    with ExitStack() as parts:
        if config.metrics_port:
            server, _ = start_http_server(config.metrics_port, "127.0.0.1", registry=registry)
            parts.callback(server.server_close)
            parts.callback(server.shutdown)
        auditor = parts.enter_context(_auditor(config))
        while True:
            try:
                last = auditor.audit()
            except PartUnreachable as trouble:
                metrics.failed()
                complain(trouble)
            else:
                metrics.audited(last)
                tell(last)
            if wait():
                return last


@contextmanager
def _auditor(config: AuditConfig) -> Iterator[Auditor]:
    with ExitStack() as parts:
        reader = ClickHouseReader(config.warehouse_url, config.warehouse_options)
        parts.callback(reader.close)
        log = KafkaLog(config.kafka_bootstrap, config.group, config.kafka_options)
        parts.callback(log.close)
        yield Auditor(log, WarehouseView(reader), config)
