"""Composition root of the archiver."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from schemas.errors import PartUnreachable
from stream_processors.archive.archiver import Archiver
from stream_processors.archive.config import ARCHIVE_URL, ArchiveLocation, ArchiverConfig
from stream_processors.archive.kafka_log import ArchivedLog
from stream_processors.archive.ledger import Entry
from stream_processors.archive.metrics import ArchiveMetrics
from stream_processors.archive.object_store import ObjectStore
from stream_processors.archive.reading import ArchiveReader
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.writer_schemas import WriterSchemas

Tell = Callable[[Entry], None]


def catch_up(
    config: ArchiverConfig,
    stopped: Callable[[], bool],
    now_s: Callable[[], float],
    tell: Tell,
    progress: Callable[[int, int], None],
) -> None:
    """Archive what is in Kafka now. Raises PartUnreachable, ArchiveDamaged."""
    with _serving(config) as metrics, _archiver(config, metrics, tell) as archiver:
        archiver.catch_up(stopped, now_s, progress)


def follow(
    config: ArchiverConfig,
    stopped: Callable[[], bool],
    now_s: Callable[[], float],
    tell: Tell,
    complain: Callable[[PartUnreachable], None],
) -> None:
    """Archive what comes until `stopped`. A part that does not answer is complained of, and asked again; `complain` waits."""
    with _serving(config) as metrics:
        while not stopped():
            try:
                with _archiver(config, metrics, tell) as archiver:
                    archiver.follow(stopped, now_s)
            except PartUnreachable as trouble:
                metrics.failed()
                complain(trouble)


def open_archive(location: ArchiveLocation) -> ArchiveReader:
    """Raises ConfigurationError where the URL names no archive."""
    return ArchiveReader(ObjectStore(location.url, location.options))


def known_archive(variables: Mapping[str, str]) -> ArchiveReader | None:
    """The archive that the settings name, None where they name none. Raises ConfigurationError."""
    return open_archive(ArchiveLocation.from_environment(variables)) if variables.get(ARCHIVE_URL, "").strip() else None


@contextmanager
def _serving(config: ArchiverConfig) -> Iterator[ArchiveMetrics]:
    registry = CollectorRegistry()
    with ExitStack() as parts:
        if config.metrics_port:
            server, _ = start_http_server(config.metrics_port, "127.0.0.1", registry=registry)
            parts.callback(server.server_close)
            parts.callback(server.shutdown)
        yield ArchiveMetrics(registry)


@contextmanager
def _archiver(config: ArchiverConfig, metrics: ArchiveMetrics, tell: Tell) -> Iterator[Archiver]:
    with ExitStack() as parts:
        store = ObjectStore(config.location.url, config.location.options)
        schemas = WriterSchemas(config.registry_url)
        parts.callback(schemas.close)
        kafka = ArchivedLog(config.kafka_bootstrap, config.kafka_options)
        parts.callback(kafka.close)
        try:
            yield Archiver(kafka, store, schemas, config.topics, config.limits, metrics, tell)
        except Retryable as trouble:
            raise PartUnreachable(
                "the installation", "the archiver", f"{trouble}; `tailrace doctor` looks at each part"
            ) from trouble
