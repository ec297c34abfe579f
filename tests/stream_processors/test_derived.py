"""Derived tables: their past, their days from now on, and what a swap does to them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.derivation import parse
from stream_processors.replay.derived import Derived
from stream_processors.replay.errors import ReplayRefused, WrongQuestion
from stream_processors.replay.runs import State
from stream_processors.replay.swapping import derived, swapper
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from tests.stream_processors.replay_runs import extents, filled, planned, spoil, warehouse_writer
from tests.stream_processors.warehouse_fixture import Bench, interactions

EVENTS = """
-- table: seen_events
-- source: interactions
-- order by: event_id
SELECT event_id, item_id FROM {source}
"""
CLICKS = """
-- table: clicks_by_item
-- source: interactions
-- order by: item_id
SELECT item_id, count() AS clicks, uniqExact(unit_id) AS units FROM {source} WHERE kind = 'click' GROUP BY item_id
"""
FORMER_DAYS = ("2026-01-30", "2026-01-31")


@pytest.fixture
def writer(bench: Bench) -> Iterator[ClickHouseWriter]:
    with warehouse_writer(bench) as opened:
        yield opened


@pytest.fixture
def tables(bench: Bench) -> Iterator[Derived]:
    with derived(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, lambda _line: None) as (opened, _):
        yield opened


def derive(bench: Bench, *arguments: str) -> Any:
    done = subprocess.run(bench.command("derive", *arguments), env=bench.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def add_former_days(bench: Bench) -> None:
    """The same events on days of long ago, under the ids of topics that had the name then."""
    kept = "database = currentDatabase() AND table = 'interactions' AND default_kind != 'EPHEMERAL'"
    columns = ", ".join(name for (name,) in bench.rows(f"SELECT name FROM system.columns WHERE {kept}"))
    for number, day in enumerate(FORMER_DAYS):
        topic_id = f"toUUID('018f0000-0000-7000-8000-{number:012x}') AS _topic_id"
        moved = f"* REPLACE ({topic_id}, toDateTime64('{day} 12:00:00', 3, 'UTC') AS _kafka_time)"
        bench.command_sql(
            f"INSERT INTO interactions ({columns}) SELECT {moved} FROM interactions WHERE _partition_id > '20261001'"
        )


def computed_at_once(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows("""
        SELECT toDate(_kafka_time) AS day, item_id, uniqExact(event_id), uniqExact(unit_id) FROM interactions
        WHERE kind = 'click' GROUP BY day, item_id ORDER BY day, item_id
    """)


@pytest.mark.integration
def test_a_derived_table_has_the_past_and_goes_on_without_gap_or_double(bench: Bench, tmp_path: Path) -> None:
    bench.produce([*interactions(bench, 300), *interactions(bench, 50)])
    bench.drain()
    add_former_days(bench)
    (tmp_path / "events.sql").write_text(EVENTS)

    applied = derive(bench, "apply", str(tmp_path / "events.sql"), "--json")
    assert [each["rows"] for each in applied["built"]] == [300, 300, 300]
    for first in (300, 400):
        bench.produce(interactions(bench, 100, first))
        bench.drain()
        refreshed = derive(bench, "refresh", "--json")
        assert {each["day"] for each in refreshed["built"]}.isdisjoint({"20260130", "20260131"}), "they have not changed"

    [(there, different)] = bench.rows("SELECT count(), uniqExact(event_id) FROM seen_events WHERE _day > '2026-10-01'")
    assert there == different == 500
    assert bench.rows("SELECT event_id FROM interactions WHERE event_id NOT IN (SELECT event_id FROM seen_events)") == []
    [listed] = derive(bench, "list", "--json")["tables"]
    assert [(day["rows"], day["gone"]) for day in listed["days"]] == [(300, False), (300, False), (500, False)]


@pytest.mark.integration
def test_a_swap_and_its_rollback_compute_the_touched_days_again_and_no_others(
    bench: Bench, writer: ClickHouseWriter, tables: Derived
) -> None:
    bench.produce(interactions(bench, 200))
    bench.drain()
    manifest = planned(writer, bench, "r1123-cccccc", extents(bench))
    filled(writer, manifest, State.VERIFIED)
    add_former_days(bench)
    spoil(bench, manifest)
    tables.apply(parse(CLICKS))
    table = "SELECT * FROM clicks_by_item ORDER BY _day, item_id"
    spoilt = bench.rows(table)
    assert spoilt == computed_at_once(bench)
    built = dict(bench.rows("SELECT day, built_at FROM derived_days FINAL"))

    with swapper(ReplayConfig.from_environment(bench.environment), lambda _line: None) as swaps:
        touched = set(swaps.swap("r1123-cccccc").touched)
        repaired = bench.rows(table)
        swaps.rollback("r1123-cccccc")

    assert repaired != spoilt
    assert not any("spoilt" in row for row in repaired)
    assert bench.rows(table) == spoilt
    assert touched == {day for day, at in bench.rows("SELECT day, built_at FROM derived_days FINAL") if at != built[day]}


@pytest.mark.integration
def test_a_definition_that_changes_takes_its_place_at_once_and_never_loses_a_day(
    bench: Bench, writer: ClickHouseWriter, tables: Derived
) -> None:
    bench.produce(interactions(bench, 100))
    bench.drain()
    manifest = planned(writer, bench, "r1123-dddddd", extents(bench))
    add_former_days(bench)
    tables.apply(parse(CLICKS))
    tables.apply(parse(CLICKS.replace("count() AS clicks", "count() AS clicks, max(item_id) AS last_item")))
    assert bench.rows("SELECT sum(clicks), max(last_item) FROM clicks_by_item") == [(300, "i6")]

    bench.command_sql(f"ALTER TABLE {manifest.run_table} ATTACH PARTITION ID '20260130' FROM interactions")
    bench.command_sql("ALTER TABLE interactions DROP PARTITION ID '20260130'")
    tables.refresh(tables.definitions())
    assert bench.rows("SELECT sum(clicks) FROM clicks_by_item") == [(300,)], "what the raw table has lost stays"
    with pytest.raises(ReplayRefused, match="has no 20260130 any more"):
        tables.apply(parse(CLICKS))
    tables.apply(parse(CLICKS), manifest.run_table)
    assert bench.rows("SELECT sum(clicks) FROM clicks_by_item") == [(300,)]

    tables.drop("clicks_by_item")
    assert tables.definitions() == []
    left = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%clicks_by_item%'"
    assert bench.rows(left) == []


@pytest.mark.integration
def test_a_definition_that_the_warehouse_cannot_take_changes_nothing(bench: Bench, tables: Derived) -> None:
    wrong = {
        "is no derived table": CLICKS.replace("clicks_by_item", "interactions"),
        "the warehouse says": CLICKS.replace("unit_id", "nobody"),
        "name the columns": CLICKS.replace("count() AS clicks", "count()"),
        "`order by` names": CLICKS.replace("order by: item_id", "order by: nothing"),
    }
    for said, text in wrong.items():
        with pytest.raises(WrongQuestion, match=said):
            tables.apply(parse(text))
    assert tables.definitions() == []
    assert bench.counts() == (0, 0)


@pytest.mark.parametrize(
    ("text", "lack"),
    [
        (CLICKS.replace("table:", "name:"), "-- table: NAME"),
        (CLICKS.replace("interactions", "dead_letters"), "-- source: TABLE"),
        (CLICKS.replace("order by: item_id", "order by: item_id desc"), "no list of columns"),
        (CLICKS.replace("{source}", "interactions"), "{source}"),
        (CLICKS.replace("SELECT", "INSERT INTO x SELECT"), "one SELECT"),
    ],
)
def test_a_definition_says_what_it_lacks(text: str, lack: str) -> None:
    with pytest.raises(WrongQuestion) as refused:
        parse(text)
    assert lack in str(refused.value)
