"""A replay as a contender: the whole topic planned and filled by the product's own parts, metered where the sink is."""

import os
import time
from collections.abc import Sequence

from deploy.commands.replay_run import BATCH_ROWS, WORKERS, options_of
from schemas.topics import Topic
from stream_processors.archive.main import known_archive
from stream_processors.archive.reading import ArchiveReader, OpenFile, Shelf
from stream_processors.replay.bounds import Edge
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.manifest import Asked, Manifest
from stream_processors.replay.office import ReplayOffice
from stream_processors.replay.plan import Question
from stream_processors.replay.progress import Progress
from stream_processors.replay.run import Filling
from stream_processors.replay.source import ReplaySource
from stream_processors.warehouse.kafka_source import Fetched
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.records import Place
from tests.benchmarks.meter import Meter

ARCHIVE_WORKERS = 2
"""Inserts at once from an archive: two keep two cores busy."""


def run_replay(topic: Topic, meter: Meter) -> None:
    """Plan all that the topic has, and fill the run."""
    _run(topic, meter, "kafka", WORKERS)


def run_from_archive(topic: Topic, meter: Meter) -> None:
    """The same from the archive in TAILRACE_ARCHIVE_URL."""
    _run(topic, meter, "archive", ARCHIVE_WORKERS)


def _run(topic: Topic, meter: Meter, source: str, workers: int) -> None:
    config, archive = ReplayConfig.from_environment(os.environ), known_archive(os.environ)
    run = planned(config, topic, source, archive).run
    _attach(meter)
    filling = Filling(config, run, options_of(BATCH_ROWS, workers), archive)
    try:
        filling.fill(lambda: False, _ignore)
    finally:
        filling.close()


def planned(config: ReplayConfig, topic: Topic, source: str = "kafka", archive: ArchiveReader | None = None) -> Manifest:
    office = ReplayOffice(config, archive)
    try:
        question = Question(topic, Edge(is_end=False), Edge(is_end=True), Asked("beginning", "end", source))
        return office.plan(question, time.time_ns() // 1_000_000)
    finally:
        office.close()


def _attach(meter: Meter) -> None:
    consume, inserted, opened = ReplaySource.consume, SinkMetrics.inserted, ArchiveReader.open

    def metered_consume(source: ReplaySource, timeout_s: float) -> Sequence[Fetched]:
        found = consume(source, timeout_s)
        if any(fetched.records for fetched in found):
            meter.start()
        return found

    def metered_open(archive: ArchiveReader, shelf: Shelf) -> OpenFile:
        meter.start()
        return opened(archive, shelf)

    def metered_inserted(metrics: SinkMetrics, place: Place, rows: int) -> None:
        inserted(metrics, place, rows)
        meter.note(rows)

    setattr(ReplaySource, "consume", metered_consume)  # noqa: B010 - a type checker refuses the assignment
    setattr(ArchiveReader, "open", metered_open)  # noqa: B010 - as above
    setattr(SinkMetrics, "inserted", metered_inserted)  # noqa: B010 - as above


def _ignore(_progress: Progress) -> None:
    """The meter looks itself."""
