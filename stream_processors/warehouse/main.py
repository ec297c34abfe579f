"""Composition root of the sink: parts made, joined, run until told to stop, and taken down in order."""

import gc
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from schemas.errors import PartUnreachable
from schemas.tables import TABLE_OF_RECORD
from schemas.topics import DEAD_LETTERS, TOPICS, topic_name
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.config import SinkConfig
from stream_processors.warehouse.crew import Crew
from stream_processors.warehouse.dead_letter_limit import DeadLetterLimit
from stream_processors.warehouse.dead_letter_topic import DeadLetterTopic
from stream_processors.warehouse.delivery import Delivery
from stream_processors.warehouse.errors import BrokerTrouble
from stream_processors.warehouse.health import Door, verdict
from stream_processors.warehouse.kafka_source import KafkaSource
from stream_processors.warehouse.metrics import SinkMetrics, StandingCollector
from stream_processors.warehouse.ownership import OwnershipKeeper
from stream_processors.warehouse.records import Place, Route
from stream_processors.warehouse.splice import SYNC_BYTES
from stream_processors.warehouse.tenure import Edges, Tenure
from stream_processors.warehouse.worker import Worker
from stream_processors.warehouse.writer_schemas import WriterSchemas

log = logging.getLogger(__name__)

DEAD_LETTERS_MIN = 100
"""A partition never stops for fewer than this."""
GC_ALLOCATIONS = 200_000
"""So many more objects than before, and the young ones are looked through."""
STALLED_S = 60.0
"""A drain that commits nothing for so long ends with an error."""
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of the sink brought in, as far as it was told: an insert that lost its answer is not counted."""

    rows: int
    dead_letters: int
    seconds: float


class Sink:
    """One process of the sink."""

    def __init__(self, config: SinkConfig) -> None:
        registry = CollectorRegistry()
        self._metrics = SinkMetrics(registry)
        routes = {topic_name(config.topic_prefix, topic): Route.of(topic) for topic in TOPICS if topic.record in TABLE_OF_RECORD}
        with ExitStack() as parts:
            self._source, edges = self._edges(config, list(routes), parts)

            def new_tenure(place: Place) -> Tenure:
                limit = DeadLetterLimit(config.dead_letters_share_max, DEAD_LETTERS_MIN)
                return Tenure(place, routes[place.topic], edges, limit)

            self._worker = Worker(
                self._source,
                new_tenure,
                Crew(config.crew),
                config.limits,
                self._metrics,
                time.monotonic,
                random.Random().random,  # noqa: S311 - keeps retries apart, decides nothing
                lambda: time.time_ns() // 1_000_000,
            )
            registry.register(StandingCollector(self._worker.standings, self._worker.bytes_in_hand))
            if config.metrics_port:
                parts.callback(Door(("127.0.0.1", config.metrics_port), registry, self._health).close)
            self._parts = parts.pop_all()

    def _edges(self, config: SinkConfig, topics: list[str], parts: ExitStack) -> tuple[KafkaSource, Edges]:
        url, options = config.warehouse_url, config.warehouse_options
        writer = ClickHouseWriter(url, options, config.limits.rows, connections=config.crew)
        parts.callback(writer.close)
        schemas = WriterSchemas(config.registry_url)
        parts.callback(schemas.close)
        letters = DeadLetterTopic(config.kafka_bootstrap, topic_name(config.topic_prefix, DEAD_LETTERS), config.kafka_options)
        source = KafkaSource(config.kafka_bootstrap, config.group, topics, config.kafka_options)
        parts.callback(source.close)
        delivery = Delivery(writer, schemas, letters, self._metrics, lambda: secrets.token_bytes(SYNC_BYTES))
        return source, Edges(source, writer, OwnershipKeeper(source, writer, letters), delivery, self._metrics)

    def _health(self) -> dict[str, Any]:
        try:
            self._source.ends()
        except (BrokerTrouble, PartUnreachable) as trouble:
            return verdict(self._worker.standings(), self._worker.silent_s(), str(trouble))
        return verdict(self._worker.standings(), self._worker.silent_s(), None)

    def run(self, stopped: Callable[[], bool]) -> Result:
        """Run until `stopped`; then deliver and commit what has been gathered."""
        return self._run(stopped)

    def drain(self, stopped: Callable[[], bool], progress: Callable[[int, int], None]) -> Result:
        """Run until all that was in the topics at the start is committed. `progress` gets (offsets done, offsets to do).

        Raises PartUnreachable where nothing moves for STALLED_S.
        """
        drain = _Drain(self._source, progress)
        return self._run(lambda: stopped() or drain.done())

    def close(self) -> None:
        self._parts.close()

    def _run(self, ended: Callable[[], bool]) -> Result:
        leave_records_to_reference_counts()
        started = time.monotonic()
        while not ended():
            self._worker.step()
        self._worker.finish()
        return Result(*self._metrics.brought_in(), time.monotonic() - started)


def leave_records_to_reference_counts() -> None:
    """Consumed records are in no cycles, and the collector's walks over so many of them cost a quarter of the CPU."""
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 50, 50)


class _Drain:
    """Watches the group's committed offsets, so that it also ends where other processes hold some of the partitions."""

    def __init__(self, source: KafkaSource, progress: Callable[[int, int], None]) -> None:
        self._source, self._progress = source, progress
        self._targets: dict[Place, int] | None = None
        self._starts: dict[Place, int] = {}
        self._last, self._moved_s, self._looked_s = -1, time.monotonic(), 0.0

    def done(self) -> bool:
        """Whether all is committed; a broker that does not answer at once is asked again with the next look."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return False
        self._looked_s = now_s
        try:
            return self._look(now_s)
        except BrokerTrouble as trouble:
            log.warning("asking for the group's offsets: %s", trouble)
            self._refuse_stall(self._last, now_s)
            return False

    def _look(self, now_s: float) -> bool:
        if self._targets is None:
            targets = {place: end for place, end in self._source.ends().items() if end > 0}
            self._starts, self._targets = self._committed(targets), targets
        offsets = self._committed(self._targets)
        total = sum(max(0, target - self._starts[place]) for place, target in self._targets.items())
        left = sum(max(0, target - offsets[place]) for place, target in self._targets.items())
        self._progress(total - left, total)
        self._refuse_stall(total - left, now_s)
        return left == 0

    def _committed(self, targets: Mapping[Place, int]) -> dict[Place, int]:
        return self._source.committed_offsets(list(targets)) if targets else {}

    def _refuse_stall(self, offsets_done: int, now_s: float) -> None:
        if offsets_done != self._last:
            self._last, self._moved_s = offsets_done, now_s
        elif now_s - self._moved_s > STALLED_S:
            remedy = "its log names the part that does not answer; `tailrace doctor` looks at each"
            raise PartUnreachable("the sink", "its drain", f"nothing was committed for {STALLED_S:.0f} s; {remedy}")
