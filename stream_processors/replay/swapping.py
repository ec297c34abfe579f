"""Composition roots of what changes tables that people read: swap, rollback, abort, prune; derived tables."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from schemas.errors import PartUnreachable
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.derived import Derived
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import RunStore
from stream_processors.replay.swap import Swapper
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import Place, Position

ANSWER_TIMEOUT_S = 900.0
"""Copying what stays of a day takes the warehouse as long as the day is large, before anything is held."""
ASKED_MAX = 10
_PAUSE_S = 0.5


@contextmanager
def swapper(config: ReplayConfig, tell: Callable[[str], None]) -> Iterator[Swapper]:
    """Raises PartUnreachable where the warehouse is not there. Kafka is asked for a new swap only."""
    with ExitStack() as parts:
        writer = ClickHouseWriter(config.warehouse_url, config.warehouse_options, 1, answer_timeout_s=ANSWER_TIMEOUT_S)
        parts.callback(writer.close)
        yield Swapper(writer, RunStore(writer), partial(committed, config), Derived(writer, tell).rebuild, tell)


@contextmanager
def derived(warehouse_url: str, options: Mapping[str, str], tell: Callable[[str], None]) -> Iterator[tuple[Derived, RunStore]]:
    """Raises PartUnreachable where the warehouse is not there."""
    writer = ClickHouseWriter(warehouse_url, options, 1, answer_timeout_s=ANSWER_TIMEOUT_S)
    try:
        yield Derived(writer, tell), RunStore(writer)
    finally:
        writer.close()


def committed(config: ReplayConfig, manifest: Manifest) -> Mapping[int, int]:
    """Below which offset the live stream has brought everything in, by partition; 0 where it has said nothing of this id.

    Asked some times: a group's coordinator that has just been found may say that it is none yet.
    """
    places = [Place(manifest.topic, each.partition) for each in manifest.ranges]
    log = KafkaLog(config.kafka_bootstrap, config.group, config.kafka_options)
    try:
        found = _asked(lambda: log.committed(places))
    finally:
        log.close()
    reached = {place.partition: position.offset for place, position in found.items() if position.topic_id == manifest.topic_id}
    return {each.partition: reached.get(each.partition, 0) for each in manifest.ranges}


def _asked(question: Callable[[], dict[Place, Position]]) -> dict[Place, Position]:
    for _ in range(ASKED_MAX - 1):
        try:
            return question()
        except PartUnreachable:
            time.sleep(_PAUSE_S)
    return question()
