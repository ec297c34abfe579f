"""A run in the place of live rows, and back: whose rows are whose, what is refused, and what others do meanwhile."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from deploy.settings import Installation
from deploy.warehouse_tables import examine_tables
from schemas.envelope import Source, pack_position
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.exchange import Overtaken
from stream_processors.replay.holds import hold
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import RunStore, State
from stream_processors.replay.swap import Swapper
from stream_processors.replay.swapping import swapper
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Refused
from stream_processors.warehouse.ownership import fence
from stream_processors.warehouse.records import Place
from tests.stream_processors.replay_runs import (
    TABLE,
    Extent,
    extents,
    filled,
    meddled_swaps,
    planned,
    spoil,
    state_sql,
    warehouse_writer,
)
from tests.stream_processors.warehouse_fixture import Bench, interactions

pytestmark = pytest.mark.integration

RUN, OTHER = "r1123-aaaaaa", "r1123-eeeeee"


@pytest.fixture
def writer(bench: Bench) -> Iterator[ClickHouseWriter]:
    with warehouse_writer(bench) as opened:
        yield opened


@pytest.fixture
def swaps(bench: Bench) -> Iterator[Swapper]:
    with swapper(ReplayConfig.from_environment(bench.environment), lambda _line: None) as opened:
        yield opened


def produced(bench: Bench, count: int, first: int = 0, **variables: str) -> None:
    """Into the topic, and by the sink into the table."""
    bench.produce(interactions(bench, count, first))
    bench.drain(**variables)


def run_of(bench: Bench, writer: ClickHouseWriter, run: str = RUN, ranges: Mapping[int, Extent] | None = None) -> Manifest:
    manifest = planned(writer, bench, run, extents(bench) if ranges is None else ranges)
    filled(writer, manifest, State.VERIFIED)
    return manifest


def replay(bench: Bench, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        bench.command("replay", *arguments, "--json"), env=bench.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else json.loads(done.stdout)


def test_spoilt_rows_are_repaired_and_a_rollback_brings_them_back_bit_for_bit(bench: Bench, writer: ClickHouseWriter) -> None:
    produced(bench, 500)
    run = run_of(bench, writer)
    spoil(bench, run)
    spoilt = bench.rows(state_sql(run))

    outcome = replay(bench, "swap", RUN)

    assert (outcome["result"], len(outcome["touched"])) == ("swapped", 1)
    assert bench.counts() == (500, 500)
    assert bench.rows("SELECT DISTINCT _run, item_id = 'spoilt' FROM interactions") == [(RUN, 0)]
    produced(bench, 100, 500)
    assert bench.counts() == (600, 600)

    replay(bench, "rollback", RUN)

    assert bench.rows(state_sql(run)) == spoilt
    assert bench.counts() == (spoilt[0][0] + 100, spoilt[0][0] + 100)
    replay(bench, "swap", RUN)
    assert bench.counts() == (600, 600)


def test_rows_that_are_not_the_runs_to_give_stay_where_they_are(bench: Bench, writer: ClickHouseWriter, swaps: Swapper) -> None:
    produced(bench, 400)
    ranges = {0: Extent(10, 50), 2: Extent(0, 30)}
    run = run_of(bench, writer, ranges=ranges)
    buried = f"_topic_id = '{run.topic_id}' AND _partition = 0 AND _offset = 20"
    bench.command_sql(f"DELETE FROM {run.run_table} WHERE {buried}")
    coordinates = "_topic_id, _partition, _offset, _kafka_time"
    bench.command_sql(
        f"INSERT INTO replay_dead_letters (_framed, _owned, _free, {coordinates}, _run, reason) "
        f"SELECT 0, 0, 0, {coordinates}, '{RUN}', 'transform' FROM {TABLE} WHERE {buried}"
    )
    before = dict(bench.rows(f"SELECT (_partition, _offset), cityHash64(toString(tuple(*))) FROM {TABLE}"))

    swaps.swap(RUN)

    after = {tuple(place): (run, row) for place, run, row in bench.rows(
        f"SELECT (_partition, _offset), _run, cityHash64(toString(tuple(*))) FROM {TABLE}"
    )}  # fmt: skip
    given = {place for place, (origin, _) in after.items() if origin == RUN}
    assert given == {(0, offset) for offset in range(10, 50) if offset != 20} | {(2, offset) for offset in range(30)}
    assert {place: row for place, (_, row) in after.items() if place not in given} == {
        tuple(place): row for place, row in before.items() if tuple(place) not in given
    }
    assert bench.counts() == (400, 400)


def test_what_a_run_brought_past_the_live_sink_is_in_once_before_and_after_a_rollback(
    bench: Bench, writer: ClickHouseWriter, swaps: Swapper
) -> None:
    produced(bench, 300)
    produced(bench, 100, 300, TAILRACE_SINK_GROUP="another")
    run_of(bench, writer)
    bench.command_sql(f"ALTER TABLE {TABLE} DELETE WHERE producer_seq >= 300 SETTINGS mutations_sync = 2")

    swaps.swap(RUN)
    bench.drain()
    assert bench.counts() == (400, 400)

    swaps.rollback(RUN)
    bench.drain()
    assert bench.counts() == (400, 400)
    assert bench.rows(f"SELECT _run, count() FROM {TABLE} GROUP BY _run ORDER BY _run") == [("live", 300), (RUN, 100)]


def test_what_comes_in_although_the_table_is_held_is_neither_lost_nor_there_twice(bench: Bench, writer: ClickHouseWriter) -> None:
    """As after a restart of the warehouse that forgot the hold: a sink goes on between the last copy and the exchange."""
    produced(bench, 200)
    run_of(bench, writer)
    bench.produce(interactions(bench, 100, 200))

    def forget() -> None:
        bench.command_sql(f"INSERT INTO ingest_hold VALUES ('{TABLE}', 0)")
        bench.drain()

    with meddled_swaps(bench, "EXCHANGE", forget) as swaps:
        swaps.swap(RUN)

    assert bench.counts() == (300, 300)
    assert bench.rows(f"SELECT _run, count() FROM {TABLE} GROUP BY _run ORDER BY _run") == [("live", 100), (RUN, 200)]


def test_who_owned_while_the_table_was_held_has_to_own_again(bench: Bench, writer: ClickHouseWriter) -> None:
    """What he knows to be in is what was in the old table: his inserts would be there twice, or land in the table that left."""
    produced(bench, 100)
    run = run_of(bench, writer)
    owners: list[bytes] = []

    def insert() -> None:
        envelope = Source(owners[0], run.topic_id, 1, 1, "live").head() + pack_position(99_999, 1_795_424_805_626)
        row = f"(unhex('{envelope.hex()}'), '018f0000-0000-7000-8000-00000000ffff')"
        writer.command(f"INSERT INTO {TABLE} (_envelope, event_id) VALUES {row}", "test")

    with meddled_swaps(bench, "EXCHANGE", lambda: owners.append(fence(writer, run.topic_id, Place(run.topic, 1)))) as swaps:
        swaps.swap(RUN)

    with pytest.raises(Refused, match="not the owner"):
        insert()
    owners[:] = [fence(writer, run.topic_id, Place(run.topic, 1))]
    insert()
    assert bench.counts() == (101, 101)


def test_rows_that_come_while_the_table_is_composed_are_in_it(bench: Bench, writer: ClickHouseWriter) -> None:
    produced(bench, 200)
    run_of(bench, writer)
    produced(bench, 50, 200)
    bench.produce(interactions(bench, 100, 250))

    def merged_meanwhile() -> None:
        """Rows that are new, in one part with rows that were copied already."""
        bench.drain()
        bench.command_sql(f"OPTIMIZE TABLE {TABLE} FINAL")

    with meddled_swaps(bench, "INSERT INTO ingest_hold", merged_meanwhile) as swaps:
        swaps.swap(RUN)

    assert bench.counts() == (350, 350)


@pytest.mark.parametrize("before", ["EXCHANGE", "INSERT INTO ingest_hold", "RENAME", "CREATE TABLE staging"])
def test_a_process_that_wakes_after_another_has_gone_on_changes_nothing(
    bench: Bench, writer: ClickHouseWriter, swaps: Swapper, before: str
) -> None:
    produced(bench, 100)
    run = run_of(bench, writer)
    spoil(bench, run)

    with meddled_swaps(bench, before, lambda: swaps.swap(RUN)) as slow, pytest.raises(Overtaken):
        slow.swap(RUN)

    assert bench.counts() == (100, 100)
    assert bench.rows("SELECT table_name FROM ingest_hold WHERE held != 0") == []
    left = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'staging%'"
    assert bench.rows(left) == []
    assert bench.rows(f"SELECT count() FROM {TABLE} WHERE _run = '{RUN}'") == [(100,)]


def test_what_cannot_be_swapped_is_refused_and_nothing_has_changed(
    bench: Bench, writer: ClickHouseWriter, swaps: Swapper
) -> None:
    produced(bench, 50)
    run = planned(writer, bench, RUN, extents(bench))
    uuid = bench.rows(f"SELECT uuid FROM system.tables WHERE name = '{TABLE}' AND database = currentDatabase()")
    store = RunStore(writer)

    def refused(said: str, action: Callable[[], object]) -> None:
        with pytest.raises(ReplayRefused, match=said):
            action()

    refused("no run is named", lambda: swaps.swap("r0101-nobody"))
    refused("is not filled", lambda: swaps.swap(RUN, "I want it"))
    filled(writer, run)
    refused("is not verified", lambda: swaps.swap(RUN))
    store.append(RUN, State.DIFFERS)
    refused("differs from what it should be", lambda: swaps.swap(RUN))
    refused("not swapped", lambda: swaps.rollback(RUN))
    refused("nothing of .* is under way", lambda: swaps.abort(RUN))
    refused("is not held", lambda: swaps.lift(TABLE))
    hold(writer, TABLE)
    [problem] = examine_tables(Installation.from_environment(bench.environment))
    assert problem.what == f"{TABLE} is held: its sinks wait"
    refused("is held", lambda: swaps.swap(RUN, "I want it"))
    swaps.lift(TABLE)
    bench.command_sql(f"ALTER TABLE {TABLE} ADD COLUMN later String")
    refused("is defined otherwise", lambda: swaps.swap(RUN, "I want it"))
    bench.command_sql(f"ALTER TABLE {TABLE} DROP COLUMN later")
    assert bench.rows(f"SELECT uuid FROM system.tables WHERE name = '{TABLE}' AND database = currentDatabase()") == uuid

    swaps.swap(RUN, "looked at the rows that differ")
    begun = store.get(RUN)
    assert begun is not None
    assert begun.last(State.PREPARING).detail["forced"] == "looked at the rows that differ"  # type: ignore[union-attr]
    refused("is swapped already", lambda: swaps.swap(RUN))
    refused("rollback .* undoes the swap", lambda: swaps.abort(RUN))
    swaps.prune(RUN)
    refused("was pruned", lambda: swaps.rollback(RUN))


def test_two_runs_on_one_table_do_not_come_into_each_others_way(bench: Bench, writer: ClickHouseWriter, swaps: Swapper) -> None:
    produced(bench, 100)
    first, second = run_of(bench, writer), run_of(bench, writer, OTHER)

    def second_comes() -> None:
        with pytest.raises(ReplayRefused, match=f"is being exchanged for {RUN}"):
            swaps.swap(OTHER)

    with meddled_swaps(bench, "CREATE TABLE staging", second_comes) as slow:
        slow.swap(RUN)
    assert bench.rows(f"SELECT DISTINCT _run FROM {TABLE}") == [(RUN,)]

    with pytest.raises(ReplayRefused, match=f"{RUN} has changed rows of these offsets since"):
        swaps.swap(OTHER)
    RunStore(writer).append(OTHER, State.VERIFIED)
    swaps.swap(OTHER)
    with pytest.raises(ReplayRefused, match=f"{OTHER} was swapped over it"):
        swaps.rollback(RUN)
    swaps.rollback(OTHER)
    assert bench.rows(f"SELECT DISTINCT _run FROM {TABLE}") == [(RUN,)]
    swaps.rollback(RUN)
    assert bench.rows(f"SELECT DISTINCT _run FROM {TABLE}") == [("live",)]
    assert bench.counts() == (100, 100)
    for run in (first, second):
        swaps.prune(run.run)
    left = "SELECT name FROM system.tables WHERE database = currentDatabase() AND match(name, '^(kept|staging|replay)_r')"
    assert bench.rows(left) == []
