"""How long a table is held while a replay's day takes the place of the live one, and how that grows with the day."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any
from uuid import UUID

from schemas.topics import INTERACTIONS
from stream_processors.replay.derived import Derived
from stream_processors.replay.manifest import Asked, Estimate, Manifest, PartitionRange, Piece, PieceSource
from stream_processors.replay.runs import RunStore, State
from stream_processors.replay.swap import Swapper
from stream_processors.replay.tables import definition_of, make_tables
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked as Extent
from tests.benchmarks.presentation import Section, Table, at_most

TABLE, RUN = "interactions", "r0101-bench"
TOPIC_ID = UUID("018f0000-0000-7000-8000-00000000aaaa")
DAY = "2026-01-31"
OTHER_DAYS, OTHER_ROWS = 30, 20_000
PARTS = 20
"""A day is inserted in so many parts."""
ROUNDS = 3
HELD_S_MAX = 1.0
ANSWER_TIMEOUT_S = 900
_HOW = f"""A day of synthetic interactions, in {PARTS} inserts, in a table with {OTHER_DAYS} other days; a run that gives the
whole day again; swap and rollback in turn, on the embedded warehouse. `held` is what a sink waits for, from the hold to its
end; before it the table is composed beside the live one while inserts go on."""


def measure(ground: Ground, asked: Extent) -> dict[str, Any]:
    rows = (10_000, 20_000) if asked.quick else (1_000_000, 5_000_000, 20_000_000)
    return {"runs": {str(count): _swaps(ground, count) for count in rows}}


def _swaps(ground: Ground, rows: int) -> list[dict[str, Any]]:
    found = []
    with ground.place(f"swap_{rows}") as place:
        ground.say(f"swap: writing a day of {rows:,} rows")
        _fill(place, rows)
        with _swapper(place, rows) as swaps:
            for turn in range(ROUNDS):
                swapped, back = swaps.swap(RUN), swaps.rollback(RUN)
                found.append({"swap": dict(swapped.seconds), "rollback": dict(back.seconds)})
                ground.say(f"swap {turn + 1}/{ROUNDS} of {rows:,}: held for {swapped.seconds['held']:.3f} s")
    return found


@contextmanager
def _swapper(place: Place, rows: int) -> Iterator[Swapper]:
    """As the command's, beside a live sink that has committed all of the day."""
    writer = ClickHouseWriter(place.variables["TAILRACE_WAREHOUSE_URL"], {}, 1, answer_timeout_s=ANSWER_TIMEOUT_S)
    try:
        committed = dict.fromkeys(range(4), rows // 4)
        rebuild = Derived(writer, lambda _line: None).rebuild
        yield Swapper(writer, RunStore(writer), lambda _manifest: committed, rebuild, lambda _line: None)
    finally:
        writer.close()


def _fill(place: Place, rows: int) -> None:
    writer = ClickHouseWriter(place.variables["TAILRACE_WAREHOUSE_URL"], {}, 1, answer_timeout_s=ANSWER_TIMEOUT_S)
    try:
        for part in range(PARTS):
            writer.command(_rows(TABLE, "live", f"'{DAY} 00:00:00'", rows // PARTS, part * rows // PARTS), "benchmark")
        other = f"toString(toDate('{DAY}') - 1 - number % {OTHER_DAYS})"
        writer.command(_rows(TABLE, "live", other, OTHER_DAYS * OTHER_ROWS, rows), "benchmark")
        manifest = _manifest(place, writer, rows)
        store = RunStore(writer)
        store.save(manifest)
        make_tables(writer, manifest)
        for part in range(PARTS):
            given = _rows(manifest.run_table, RUN, f"'{DAY} 00:00:00'", rows // PARTS, part * rows // PARTS)
            writer.command(given, "benchmark")
        for state in (State.RUNNING, State.FILLED, State.VERIFIED):
            store.append(RUN, state)
    finally:
        writer.close()


def _rows(table: str, run: str, since: str, count: int, first: int) -> str:
    """Rows of `run` over four partitions, numbered from `first` on; `since` is SQL for when their day begins."""
    values = {
        "_framed": "0",
        "_owned": "0",
        "_free": "0",
        "_topic_id": f"toUUID('{TOPIC_ID}')",
        "_partition": "number % 4",
        "_offset": "intDiv(number, 4)",
        "_kafka_time": f"toDateTime64({since}, 3, 'UTC') + number % 80000",
        "_schema_id": "1",
        "_run": f"'{run}'",
        "event_id": "generateUUIDv7()",
        "occurred_at": "now64(6)",
        "unit_type": "'user'",
        "unit_id": "concat('u', toString(cityHash64(number) % 100000))",
        "traffic": "'live'",
        "producer_seq": "number",
        "surface": "'home'",
        "item_id": "concat('i', toString(number % 997))",
        "kind": "'click'",
    }
    chosen = f"SELECT {', '.join(values.values())} FROM numbers({first}, {count})"
    return f"INSERT INTO {table} ({', '.join(values)}) {chosen}"


def _manifest(place: Place, writer: ClickHouseWriter, rows: int) -> Manifest:
    end = rows // 4
    return Manifest(
        run=RUN,
        topic=place.topic(INTERACTIONS),
        topic_id=TOPIC_ID,
        record="Interaction",
        table=TABLE,
        ranges=tuple(PartitionRange(number, 0, end, (Piece(PieceSource.KAFKA, 0, end),)) for number in range(4)),
        asked=Asked("0", str(end)),
        schema_ids=(1,),
        table_sha256=definition_of(writer, TABLE).sha256,
        code="benchmark",
        estimate=Estimate(rows, 0, 0.0),
    )


def present(measured: Mapping[str, Any]) -> Section:
    lines, targets = [], []
    for rows, runs in measured["runs"].items():
        for action in ("swap", "rollback"):
            held = [run[action]["held"] for run in runs]
            prepare = median(run[action]["prepare"] for run in runs)
            lines.append(
                (f"{action} of {int(rows):,}", f"{prepare:.2f}", f"{median(held):.3f}", f"{min(held):.3f}–{max(held):.3f}")
            )
            targets.append(at_most(f"held for a {action} of {int(rows):,} rows", HELD_S_MAX, median(held), "s"))
    return Section("Swap", _HOW, [Table(("rows of the day", "prepare s", "held s", "least–most"), lines)], targets)
