"""A replay as a contender: the whole topic planned and filled by the product's own parts, metered where the sink is."""

import os
import time
from collections.abc import Sequence

from deploy.commands.replay_run import BATCH_ROWS, WORKERS, options_of
from schemas.topics import Topic
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


def run_replay(topic: Topic, meter: Meter) -> None:
    """Plan all that the topic has, and fill the run."""
    config = ReplayConfig.from_environment(os.environ)
    run = planned(config, topic).run
    _attach(meter)
    filling = Filling(config, run, options_of(BATCH_ROWS, WORKERS), None)
    try:
        filling.fill(lambda: False, _ignore)
    finally:
        filling.close()


def planned(config: ReplayConfig, topic: Topic) -> Manifest:
    office = ReplayOffice(config)
    try:
        question = Question(topic, Edge(is_end=False), Edge(is_end=True), Asked("beginning", "end"))
        return office.plan(question, time.time_ns() // 1_000_000)
    finally:
        office.close()


def _attach(meter: Meter) -> None:
    consume, inserted = ReplaySource.consume, SinkMetrics.inserted

    def metered_consume(source: ReplaySource, timeout_s: float) -> Sequence[Fetched]:
        found = consume(source, timeout_s)
        if any(fetched.records for fetched in found):
            meter.start()
        return found

    def metered_inserted(metrics: SinkMetrics, place: Place, rows: int) -> None:
        inserted(metrics, place, rows)
        meter.note(rows)

    setattr(ReplaySource, "consume", metered_consume)  # noqa: B010 - a type checker refuses the assignment
    setattr(SinkMetrics, "inserted", metered_inserted)  # noqa: B010 - as above


def _ignore(_progress: Progress) -> None:
    """The meter looks itself."""
