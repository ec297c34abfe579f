"""Composition root of planning and looking: the parts that a command about runs needs, made and closed."""

import secrets
from contextlib import ExitStack
from datetime import UTC, datetime

from schemas.topics import Topic, topic_name
from stream_processors.archive.reading import ArchiveReader
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.log_reader import LogReader
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.plan import Planner, Question
from stream_processors.replay.runs import Run, RunStore
from stream_processors.replay.verify import Verification, Verifier
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.writer_schemas import WriterSchemas

_ROWS_MAX = 100_000


class ReplayOffice:
    """Close it. Raises PartUnreachable, Retryable where a part does not answer."""

    def __init__(self, config: ReplayConfig, archive: ArchiveReader | None = None) -> None:
        self._config, self._archive = config, archive
        with ExitStack() as parts:
            self.writer = ClickHouseWriter(config.warehouse_url, config.warehouse_options, _ROWS_MAX)
            parts.callback(self.writer.close)
            self.store = RunStore(self.writer)
            self._parts = parts.pop_all()

    def plan(self, question: Question, now_ms: int) -> Manifest:
        """The manifest, saved. Raises WrongQuestion, ReplayRefused: then nothing was saved."""
        schemas, reader = self._schemas(), self._reader(question.topic)
        prefix = self._config.topic_prefix
        planner = Planner(reader, self.writer, schemas, self.store, self._archive, prefix, lambda: new_run(now_ms))
        manifest = planner.plan(question)
        self.store.save(manifest)
        return manifest

    def verify(self, run: Run) -> Verification:
        """What was found, written down as the run's next step."""
        return Verifier(self._config, self.writer, self._schemas(), self._archive).verify(run)

    def find(self, run: str) -> Run | None:
        return self.store.get(run)

    def close(self) -> None:
        self._parts.close()

    def _schemas(self) -> WriterSchemas:
        schemas = WriterSchemas(self._config.registry_url)
        self._parts.callback(schemas.close)
        return schemas

    def _reader(self, topic: Topic) -> LogReader:
        name = topic_name(self._config.topic_prefix, topic)
        reader = LogReader(self._config.kafka_bootstrap, name, self._config.kafka_options)
        self._parts.callback(reader.close)
        return reader


def new_run(now_ms: int) -> str:
    """A name that no other run has, but by bad luck: r, month and day, three random bytes."""
    return f"r{datetime.fromtimestamp(now_ms / 1000, UTC):%m%d}-{secrets.token_hex(3)}"
