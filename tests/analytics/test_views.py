"""What the views make of copies and of clocks, from rows in the real warehouse."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from analytics.metrics_catalog import Aggregate, Direction, Measure, Metric, MetricKind, Source
from analytics.scorecard import Question, scorecard
from analytics.warehouse import Warehouse
from schemas.events import EventId, Micros
from tests.analytics.ingest import Ingest, Written
from tests.analytics.ledger import BEGAN_AT, SECOND, Ledger, definition

pytestmark = pytest.mark.integration

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
MEMORY_BYTES_MAX = 40_000_000
MANY = 500_000
Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def client(installation: Mapping[str, str]) -> Iterator[Client]:
    with closing(clickhouse_connect.get_client(dsn=installation["TAILRACE_WAREHOUSE_URL"])) as opened:
        yield opened


@pytest.fixture
def rows(client: Client) -> Rows:
    return lambda sql, **settings: [tuple(row) for row in client.query(sql, settings=settings).result_rows]


def write_everywhere(url: str, records: Sequence[Written]) -> int:
    """`records` once at home, then again: later that day, in another partition, in a topic made anew, and 400 days on. Says how
    often they were written.
    """
    with ExitStack() as stack:
        home, moved, renewed = (stack.enter_context(closing(Ingest(url, partition))) for partition in (0, 3, 0))
        written = [
            (home, BEGAN_AT),
            (home, BEGAN_AT + HOUR),
            (moved, BEGAN_AT + HOUR),
            (renewed, BEGAN_AT + DAY),
            (home, BEGAN_AT + 400 * DAY),
        ]
        for door, at in written:
            door.write(records, taken_at=Micros(at))
    return len(written)


def test_copies_in_any_place_stay_in_the_table_and_count_once_in_every_view(
    installation: Mapping[str, str], ledger: Ledger, rows: Rows
) -> None:
    for number in range(20):
        ledger.serve(ledger.unit(number), BEGAN_AT, "control")
        ledger.act(ledger.unit(number), BEGAN_AT + SECOND, "click")
    url = installation["TAILRACE_WAREHOUSE_URL"]
    copies = write_everywhere(url, ledger.served)
    write_everywhere(url, ledger.interactions)
    write_everywhere(url, [definition(ledger.experiment)])
    counted = {
        table: rows(f"SELECT count() FROM {table}")[0][0]
        for table in ("recommendations", "interactions", "experiment_revisions", "recommendations_once", "interactions_once")
    }

    assert counted == {
        "recommendations": 20 * copies,
        "interactions": 20 * copies,
        "experiment_revisions": copies,
        "recommendations_once": 20,
        "interactions_once": 20,
    }
    assert rows("SELECT count() FROM experiments") == [(1,)]
    assert rows("SELECT experiment_id, count(), sum(exposed_requests) FROM exposures GROUP BY 1 ORDER BY 1") == [
        ("other", 20, 20),
        (ledger.experiment, 20, 20),
    ]


def test_the_copy_that_counts_is_the_one_that_kafka_took_first_whatever_it_says_and_wherever_it_is(
    installation: Mapping[str, str], ledger: Ledger, rows: Rows
) -> None:
    ledger.act(ledger.unit(1), BEGAN_AT, "first")
    (first,) = ledger.interactions
    with ExitStack() as stack:
        doors = [stack.enter_context(closing(Ingest(installation["TAILRACE_WAREHOUSE_URL"]))) for _ in range(6)]
        for days, door in enumerate(doors[1:], 1):
            door.write([replace(first, kind="later", surface="elsewhere")], taken_at=Micros(BEGAN_AT + days * DAY))
        doors[0].write([first], taken_at=Micros(BEGAN_AT))

    assert rows("SELECT kind FROM interactions_once") == [("first",)]
    assert rows("SELECT count() FROM interactions_once WHERE surface = 'elsewhere'") == [(0,)], "its first copy was not there"


def fill(client: Client) -> None:
    """MANY events in either table and as many copies in twenty, over four days; few units, since what is grouped by unit is a
    question's own affair.
    """
    place = f"""
        0, 0, 0, toUUID('00000000-0000-0000-0000-000000000001'), number % 4, number,
        toDateTime64('2026-01-01', 3, 'UTC') + toIntervalSecond(intDiv(number * 345600, {MANY})),
        reinterpretAsUUID(sipHash128(if(number % 20 = 0, number + 1, number))), _kafka_time, 'user',
        toString(if(number % 20 = 0, number + 1, number) % 1000), 'live', 'home'
    """
    columns = "_framed, _owned, _free, _topic_id, _partition, _offset, _kafka_time, event_id, occurred_at, unit_type, unit_id"
    columns += ", traffic, surface"
    named = place.replace("_kafka_time,", "toDateTime64('2026-01-01', 3, 'UTC'),")
    arm = "[tuple('e', 1, 'l', 'user', 'control', 1, 'in', true, true)]"
    from_numbers = f"FROM numbers({MANY})"
    client.command(f"INSERT INTO recommendations ({columns}, assignments) SELECT {named}, {arm} {from_numbers}")
    client.command(f"INSERT INTO interactions ({columns}, kind, value) SELECT {named}, 'click', 1 {from_numbers}")


@pytest.mark.parametrize(
    "asked",
    [
        "SELECT count(), sum(value) FROM interactions_once",
        "SELECT count(), sum(length(surface)) FROM recommendations_once",
        "SELECT sum(exposed_requests), min(first_at) FROM exposures",
    ],
)
def test_counting_once_takes_memory_for_the_parts_and_not_for_the_events(client: Client, rows: Rows, asked: str) -> None:
    """A hash table of so many ids does not fit into what is allowed here."""
    fill(client)

    counted = rows(asked, max_memory_usage=MEMORY_BYTES_MAX, max_threads=2)

    assert counted[0][0] == MANY - MANY // 20


def test_a_condition_on_units_gets_to_the_primary_key_through_the_views(rows: Rows, client: Client) -> None:
    fill(client)
    for view in ("recommendations_once", "interactions_once", "exposures"):
        for condition in ("unit_id = '7'", "unit_id IN (SELECT unit_id FROM recommendations WHERE _offset < 1)"):
            plan = "\n".join(line for (line,) in rows(f"EXPLAIN indexes = 1 SELECT count() FROM {view} WHERE {condition}"))
            assert "unit_id in" in plan, plan


CLOCKS = {
    "true": (0, "right"),
    "a second fast": (SECOND, "right"),
    "an hour slow": (-HOUR, "right"),
    "six hours in a spool": (-6 * HOUR, "late"),
    "a week in a spool": (-7 * DAY, "late"),
    "six minutes fast": (360 * SECOND, "wrong"),
    "eight days slow": (-8 * DAY, "wrong"),
    "400 days slow": (-400 * DAY, "wrong"),
    "400 days fast": (400 * DAY, "wrong"),
}
AT = {"zero": 0, "negative": -1, "first": -(2**63), "last": 2**63 - 1, "year 2500": 16_725_225_600_000_000}
"""What Avro's 64 bits can say and no clock of ours."""


def test_a_clock_that_cannot_be_right_is_flagged_and_gives_way_to_kafkas(ingest: Ingest, ledger: Ledger, rows: Rows) -> None:
    taken_at = BEGAN_AT + 1000 * DAY
    said = {name: (taken_at + ahead, clock) for name, (ahead, clock) in CLOCKS.items()}
    said |= {name: (at, "wrong") for name, at in AT.items()}
    for name, (at, _) in said.items():
        ledger.act(ledger.unit(1), at, name)
    ingest.write(ledger.interactions, taken_at=Micros(taken_at))

    found = rows("SELECT kind, _clock, toUnixTimestamp64Micro(_happened_at), _clock_skew_s FROM interactions_once")

    assert {kind: clock for kind, clock, *_ in found} == {name: clock for name, (_, clock) in said.items()}
    for kind, clock, happened_at, skew_s in found:
        at, _ = said[kind]
        assert happened_at == at if clock != "wrong" else taken_at <= happened_at < taken_at + SECOND
        assert skew_s == pytest.approx((at - taken_at) / SECOND, abs=2)
    assert rows("SELECT count(DISTINCT _partition_id) FROM interactions") == [(1,)], "one day of Kafka's, one partition"


def made_at(at: int) -> EventId:
    """A UUIDv7 of that moment."""
    milliseconds = f"{at // 1000:012x}"
    return EventId(f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000001")


def test_an_old_log_that_a_right_clock_sends_keeps_its_times(ingest: Ingest, ledger: Ledger, rows: Rows) -> None:
    """The emitter's clock stands in the id; one that is as old as the event says nothing of the clock."""
    taken_at = BEGAN_AT + 2000 * DAY
    for kind, at, id_made_at in (
        ("old log", BEGAN_AT, taken_at),
        ("old log out of a spool", BEGAN_AT, taken_at - DAY),
        ("slow clock", BEGAN_AT, BEGAN_AT),
        ("fast clock", taken_at + DAY, taken_at),
        ("never set", 0, taken_at),
    ):
        ledger.act(ledger.unit(len(ledger.interactions)), at, kind)
        ledger.interactions[-1] = replace(ledger.interactions[-1], event_id=made_at(id_made_at))
    ingest.write(ledger.interactions, taken_at=Micros(taken_at))

    assert rows("SELECT kind, _clock, _happened_at = occurred_at FROM interactions_once ORDER BY kind") == [
        ("fast clock", "wrong", 0),
        ("never set", "wrong", 0),
        ("old log", "late", 1),
        ("old log out of a spool", "late", 1),
        ("slow clock", "wrong", 0),
    ]


def test_a_wrong_clock_neither_moves_a_units_first_exposure_nor_takes_its_events_away(
    ingest: Ingest, ledger: Ledger, warehouse: Warehouse, rows: Rows
) -> None:
    """Every unit saw its arm, and clicked within the hour; the clock of the one server or of the other was off."""
    wrongs = [BEGAN_AT + ahead for ahead, clock in CLOCKS.values() if clock == "wrong"] + [*AT.values()]
    pairs = [(BEGAN_AT, BEGAN_AT + SECOND)]
    pairs += [(wrong, BEGAN_AT + SECOND) for wrong in wrongs]
    pairs += [(BEGAN_AT, wrong) for wrong in wrongs]
    for number, (served_at, clicked_at) in enumerate(pairs):
        ledger.serve(ledger.unit(number), served_at, "control")
        ledger.act(ledger.unit(number), clicked_at, "click")
    ingest.write(ledger.served, taken_at=Micros(BEGAN_AT))
    ingest.write(ledger.interactions, taken_at=Micros(BEGAN_AT + SECOND))
    clicked = Metric(
        name="clicked",
        title="Clicked",
        description="Clicked within the hour.",
        unit_of_measure="clicks",
        kind=MetricKind.MEAN,
        better=Direction.HIGHER,
        numerator=Measure(Source.INTERACTIONS, Aggregate.COUNT, "click"),
        window_hours=1,
    )

    card = scorecard(warehouse, Question(ledger.experiment, (clicked,)))

    (control,) = card.arms
    assert (control.counts.units, control.metric_means["clicked"]) == (len(pairs), 1)
    assert card.left_out.interactions_before_exposure == 0
    assert card.left_out.events_with_wrong_clocks == 2 * len(wrongs)
    for (first_at,) in rows("SELECT toUnixTimestamp64Micro(first_at) FROM exposures"):
        assert BEGAN_AT <= first_at < BEGAN_AT + SECOND
