"""Filling a run's table: the sink's own loop and steps, on partitions and offsets of the run's choosing.

Each partition is owned in the run's fence (fence, drain, reconcile against the run's table), read from the first offset that is
not in, spliced, inserted; after every answer that is not clean it is owned again. So a run may be killed at any moment and
started again, on any machine. A second process of the same run shuts the first one out, which notices, and ends.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from schemas.tables import TABLE_OF_RECORD
from schemas.topics import TOPICS, topic_name
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.reading import ArchiveReader
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.replay.archive_fill import ArchiveFill, Doors
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.keeper import RunKeeper
from stream_processors.replay.live_watch import LiveWatch
from stream_processors.replay.log_reader import LogReader
from stream_processors.replay.manifest import Manifest, PieceSource
from stream_processors.replay.metrics import RunMetrics
from stream_processors.replay.progress import Pacer, Progress, StallWatch
from stream_processors.replay.runs import RunStore, State, this_process
from stream_processors.replay.source import ReplaySource
from stream_processors.replay.starting import startable
from stream_processors.replay.tables import destination, make_tables
from stream_processors.replay.throttle import Rate
from stream_processors.replay.transform import transformation
from stream_processors.warehouse.batch import BatchLimits
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.crew import Crew
from stream_processors.warehouse.dead_letter_limit import DeadLetterLimit
from stream_processors.warehouse.delivery import Delivery
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.main import DEAD_LETTERS_MIN, leave_records_to_reference_counts
from stream_processors.warehouse.records import Place, Route
from stream_processors.warehouse.splice import SYNC_BYTES
from stream_processors.warehouse.tenure import Edges, Tenure
from stream_processors.warehouse.worker import Worker
from stream_processors.warehouse.writer_schemas import WriterSchemas

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""So often the run looks whether it is stuck, done, or somebody else's."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run goes about its work; none of it changes what it brings in."""

    limits: BatchLimits
    workers: int
    rows_per_s_max: float | None = None
    gives_way: bool = False
    """Slower, where the live sink falls behind."""
    dead_letters_share_max: float = 0.2
    metrics_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """What one process brought in, and whether the run is whole now."""

    run: str
    rows: int
    dead_letters: int
    seconds: float
    done: int
    total: int

    @property
    def whole(self) -> bool:
        return self.done == self.total


class Filling:
    """One process that fills one run. Raises ReplayRefused, PartUnreachable; Retryable where the warehouse does not answer."""

    def __init__(self, config: ReplayConfig, run: str, options: RunOptions, archive: ArchiveReader | None) -> None:
        self._config, self._options, self._archive = config, options, archive
        self._troubles: dict[Place, Retryable] = {}
        with ExitStack() as parts:
            connections = options.workers + 1
            self._writer = ClickHouseWriter(config.warehouse_url, config.warehouse_options, options.limits.rows, connections)
            parts.callback(self._writer.close)
            self._store = RunStore(self._writer)
            self._manifest = startable(self._store, run).manifest
            self._into = destination(self._manifest)
            self._metrics = RunMetrics(run, self._manifest.table, options.metrics_file)
            self._rate = Rate(time.monotonic, options.rows_per_s_max)
            schemas = WriterSchemas(config.registry_url)
            parts.callback(schemas.close)
            reader = LogReader(config.kafka_bootstrap, self._manifest.topic, config.kafka_options)
            parts.callback(reader.close)
            self._stretches = kafka_stretches(self._manifest)
            self._source = ReplaySource(config.kafka_bootstrap, config.kafka_options, self._stretches, self._rate)
            parts.callback(self._source.close)
            make_tables(self._writer, self._manifest)
            self._edges = self._made_edges(reader, schemas)
            self._archived = self._made_archive_fill()
            self._worker = Worker(
                self._source,
                self._new_tenure,
                Crew(options.workers),
                options.limits,
                self._metrics.steps,
                time.monotonic,
                random.Random().random,  # noqa: S311 - keeps retries apart, decides nothing
                lambda: time.time_ns() // 1_000_000,
            )
            self._parts = parts.pop_all()

    def fill(self, stopped: Callable[[], bool], tell: Callable[[Progress], None]) -> Filled:
        """Bring in what is not in yet. Returns when all is, or `stopped`; `tell` hears of progress now and then.

        Raises ReplayRefused where partitions wait for somebody to mend something (the others are in then), or another process has
        taken the run over.
        """
        leave_records_to_reference_counts()
        run, started = self._manifest.run, time.monotonic()
        self._store.append(run, State.RUNNING, {"workers": self._options.workers, "batch_rows": self._options.limits.rows})
        with ExitStack() as watching:
            if self._options.gives_way:
                watching.enter_context(self._live_watch(watching))
            pacer = Pacer(self._manifest.offsets)
            self._fill_from_archive(stopped, lambda: self._tell(pacer, tell))
            self._loop(stopped, tell, pacer)
        rows, letters = self._metrics.steps.brought_in()
        done = self._done()
        filled = Filled(run, rows, letters, time.monotonic() - started, done, self._manifest.offsets)
        if self._troubles:
            told = "\n".join(f"  {_told(place, trouble)}" for place, trouble in sorted(self._troubles.items()))
            raise ReplayRefused(f"{run} is not whole, and stays as it is; to go on, mend what follows and run it again:\n{told}")
        if filled.whole:
            self._refuse_taken_over()
            self._store.append(run, State.FILLED, {"rows": filled.rows, "dead_letters": letters, "seconds": filled.seconds})
        return filled

    def close(self) -> None:
        self._parts.close()

    def _made_edges(self, reader: LogReader, schemas: WriterSchemas) -> Edges:
        manifest = self._manifest
        keeper = RunKeeper(reader, self._writer, manifest.run, manifest.topic_id, self._stretches)
        delivery = Delivery(
            self._writer,
            schemas,
            _Untold(),
            self._metrics.steps,
            lambda: secrets.token_bytes(SYNC_BYTES),
            into=self._into,
            prepare=transformation(manifest, schemas),
        )
        return Edges(self._source, self._writer, keeper, delivery, self._metrics.steps, self._into)

    def _made_archive_fill(self) -> ArchiveFill | None:
        """None where nothing of the run lies in an archive."""
        if not any(piece.source is PieceSource.ARCHIVE for each in self._manifest.ranges for piece in each.pieces):
            return None
        if self._archive is None:
            raise ReplayRefused(f"{self._manifest.run} reads from an archive, and none is known: set TAILRACE_ARCHIVE_URL")
        steps = self._metrics.steps
        rows_max = self._options.limits.rows
        doors = Doors(self._archive, self._writer, self._edges.delivery, steps, self._into, self._rate, rows_max)
        return ArchiveFill(doors, self._manifest, self._new_limit, self._refuse_taken_over)

    def _new_limit(self) -> DeadLetterLimit:
        return DeadLetterLimit(self._options.dead_letters_share_max, DEAD_LETTERS_MIN)

    def _new_tenure(self, place: Place) -> Tenure:
        return Tenure(place, Route(self._manifest.record, self._manifest.run_table), self._edges, self._new_limit())

    def _live_watch(self, parts: ExitStack) -> LiveWatch:
        kafka = KafkaLog(self._config.kafka_bootstrap, self._config.group, self._config.kafka_options)
        parts.callback(kafka.close)
        topics = [topic_name(self._config.topic_prefix, topic) for topic in TOPICS if topic.record in TABLE_OF_RECORD]
        return LiveWatch(kafka, topics, self._rate)

    def _fill_from_archive(self, stopped: Callable[[], bool], tell: Callable[[], None]) -> None:
        """Raises ReplayRefused where a file of the archive is not as it was written."""
        if self._archived is None:
            return
        try:
            self._archived.fill(self._options.workers, stopped, tell)
        except ArchiveDamaged as damage:
            raise ReplayRefused(f"{self._manifest.run} is not whole, and stays as it is: {damage}") from damage
        self._troubles.update(self._archived.troubles)

    def _tell(self, pacer: Pacer, tell: Callable[[Progress], None]) -> None:
        progress = pacer.note(time.monotonic(), self._done())
        tell(progress)
        self._metrics.tell(progress, time.monotonic(), running=True)

    def _loop(self, stopped: Callable[[], bool], tell: Callable[[Progress], None], pacer: Pacer) -> None:
        watch = StallWatch(time.monotonic())
        looked_s = 0.0
        while self._source.assigned and not stopped():
            self._worker.step()
            self._give_up_what_needs_somebody()
            if (now_s := time.monotonic()) - looked_s < LOOK_S:
                continue
            looked_s = now_s
            progress = pacer.note(now_s, self._done())
            tell(progress)
            self._metrics.tell(progress, now_s, running=True)
            watch.refuse_stall(now_s, progress.done)
        self._worker.finish()
        progress = pacer.note(time.monotonic(), self._done())
        tell(progress)
        self._metrics.tell(progress, time.monotonic(), running=False)

    def _give_up_what_needs_somebody(self) -> None:
        for place, partition in list(self._worker.partitions.items()):
            trouble = partition.trouble
            if trouble is not None and trouble.outcome == "not_owner":
                self._refuse_taken_over()
            if trouble is not None and trouble.needs_somebody and partition.resting:
                self._troubles[place] = trouble
                self._source.give_up(place)

    def _refuse_taken_over(self) -> None:
        found = self._store.get(self._manifest.run)
        last = None if found is None else found.last(State.RUNNING)
        if last is not None and last.host_pid != this_process():
            raise ReplayRefused(f"{self._manifest.run} was taken over by the process {last.host_pid}, which goes on with it")

    def _done(self) -> int:
        archived = 0 if self._archived is None else self._archived.done
        return archived + sum(stretch.reached - stretch.first for stretch in self._source.stretches.values())


def _told(place: Place, trouble: Retryable) -> str:
    return str(trouble) if str(place) in str(trouble) else f"{place}: {trouble}"


class _Untold:
    """A run's dead letters are told to nobody: they stay in their table."""

    def publish(self, topic_id: object, place: Place, rejections: object) -> None:
        """Nothing: the live stream's letters were published when they came."""


def kafka_stretches(manifest: Manifest) -> Mapping[Place, tuple[int, int]]:
    """What is read from Kafka: one stretch a partition, for what Kafka still has is its log's end."""
    return {
        Place(manifest.topic, each.partition): (piece.first, piece.end)
        for each in manifest.ranges
        for piece in each.pieces
        if piece.source is PieceSource.KAFKA
    }
