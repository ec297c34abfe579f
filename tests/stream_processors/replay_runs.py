"""Runs that are filled and judged, for the tests of what comes after; and a live table that a bad deploy has spoilt."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self
from uuid import UUID

from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.derived import Derived
from stream_processors.replay.manifest import Asked, Estimate, Manifest, PartitionRange, Piece, PieceSource
from stream_processors.replay.runs import RunStore, State
from stream_processors.replay.swap import Swapper
from stream_processors.replay.swapping import committed
from stream_processors.replay.tables import definition_of, make_tables
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from tests.stream_processors.warehouse_fixture import Bench

TABLE = "interactions"


class Extent(NamedTuple):
    first: int
    end: int


@contextmanager
def warehouse_writer(bench: Bench) -> Iterator[ClickHouseWriter]:
    writer = ClickHouseWriter(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1000)
    yield writer
    writer.close()


def extents(bench: Bench) -> dict[int, Extent]:
    """Of the live table, by partition."""
    rows = bench.rows(f"SELECT _partition, min(_offset), max(_offset) + 1 FROM {TABLE} GROUP BY 1")
    return {partition: Extent(first, end) for partition, first, end in rows}


def planned(writer: ClickHouseWriter, bench: Bench, run: str, ranges: Mapping[int, Extent]) -> Manifest:
    """A run that is planned and has its table, of what the live table holds."""
    [(topic_id,)] = bench.rows(f"SELECT DISTINCT _topic_id FROM {TABLE}")
    manifest = Manifest(
        run=run,
        topic=bench.topic(),
        topic_id=UUID(str(topic_id)),
        record="Interaction",
        table=TABLE,
        ranges=tuple(
            PartitionRange(partition, first, end, (Piece(PieceSource.KAFKA, first, end),))
            for partition, (first, end) in sorted(ranges.items())
        ),
        asked=Asked("", ""),
        schema_ids=(bench.schema_id("Interaction"),),
        table_sha256=definition_of(writer, TABLE).sha256,
        code="test",
        estimate=Estimate(0, 0, 0.0),
    )
    RunStore(writer).save(manifest)
    make_tables(writer, manifest)
    return manifest


def filled(writer: ClickHouseWriter, manifest: Manifest, *judged: State) -> None:
    """As the run would fill it, from the live rows of its offsets; what is true of them before anybody spoils them."""
    stored = definition_of(writer, TABLE).stored
    given = ", ".join(f"'{manifest.run}' AS _run" if name == "_run" else name for name in stored)
    writer.command(
        f"INSERT INTO {manifest.run_table} ({', '.join(stored)}) SELECT {given} FROM {TABLE} WHERE {own(manifest)}", "test fill"
    )
    for step in (State.RUNNING, State.FILLED, *judged):
        RunStore(writer).append(manifest.run, step)


def own(manifest: Manifest) -> str:
    """Whether a row is of a run's offsets."""
    ranges = (f"(_partition = {each.partition} AND _offset >= {each.first} AND _offset < {each.end})" for each in manifest.ranges)
    return f"_topic_id = '{manifest.topic_id}' AND ({' OR '.join(ranges)})"


def state_sql(manifest: Manifest) -> str:
    """All there is to see of the rows of a run's offsets: count, and a sum over every column of every row."""
    return f"SELECT count(), sum(cityHash64(toString(tuple(*)))), countIf(item_id = 'spoilt') FROM {TABLE} WHERE {own(manifest)}"


def spoil(bench: Bench, manifest: Manifest) -> None:
    """What a bad deploy might do: wrong values, rows that are gone, a row at an offset that Kafka never gave out."""
    settings = "SETTINGS mutations_sync = 2"
    bench.command_sql(f"ALTER TABLE {TABLE} UPDATE item_id = 'spoilt' WHERE {own(manifest)} AND _offset % 3 = 0 {settings}")
    bench.command_sql(f"ALTER TABLE {TABLE} DELETE WHERE {own(manifest)} AND _offset % 7 = 1 {settings}")


class Meddled(ClickHouseWriter):
    """The real warehouse; just before the first statement that begins with `before`, something else happens."""

    def __init__(self, bench: Bench, before: str, happens: Callable[[], object]) -> None:
        super().__init__(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1000)
        self._before, self._happens = before, [happens]

    def command(self, statement: str, comment: str, body: bytes = b"") -> None:
        if self._happens and statement.startswith(self._before):
            self._happens.pop()()
        super().command(statement, comment, body)


@contextmanager
def meddled_swaps(bench: Bench, before: str, happens: Callable[[], object]) -> Iterator[Swapper]:
    config = ReplayConfig.from_environment(bench.environment)
    writer = Meddled(bench, before, happens)
    try:
        rebuild = Derived(writer, lambda _line: None).rebuild
        yield Swapper(writer, RunStore(writer), lambda manifest: committed(config, manifest), rebuild, lambda _line: None)
    finally:
        writer.close()


class Reader:
    """Polls one query, from its start to its end, and keeps every different answer in order."""

    def __init__(self, bench: Bench, sql: str) -> None:
        self.answers: list[str] = []
        self.asked = 0
        self._writer = ClickHouseWriter(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1000)
        self._sql, self._ended = sql, threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._writer.close()

    def _poll(self) -> None:
        while not self._ended.is_set():
            answer = self._writer.query(self._sql).decode().strip()
            self.asked += 1
            if not self.answers or self.answers[-1] != answer:
                self.answers.append(answer)
