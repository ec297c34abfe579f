"""Filling a run: the same rows whatever the way, beside a live sink, after kills, with bad records and bad functions."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_processors.replay.runs import State
from tests.stream_processors.replay_fixture import TABLE, asked, checksum, filled, letters, planned, table_of, tailrace
from tests.stream_processors.warehouse_fixture import Bench, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

RECORDS = 2000
LIMIT_S = 60


@pytest.fixture
def brought_in(bench: Bench) -> Bench:
    """A stretch that the live sink has brought in, with some poison in it."""
    values: list[bytes | None] = list(interactions(bench, RECORDS))
    values[700:700] = [b"\x00\x00\x00\xff\xffno schema", None, b"no frame"]
    bench.produce(values)
    bench.drain(TAILRACE_SINK_BATCH_ROWS_MAX="900")
    return bench


def test_a_stretch_twice_with_other_batches_and_workers_is_the_same_and_equal_to_live(brought_in: Bench) -> None:
    first, second = planned(brought_in), planned(brought_in)

    one = tailrace(brought_in, "replay", "run", first, "--json").fields
    two = tailrace(brought_in, "replay", "run", second, "--batch-rows", "173", "--workers", "1", "--json").fields

    live = checksum(brought_in, TABLE)
    assert live[0] == RECORDS
    assert checksum(brought_in, table_of(first)) == checksum(brought_in, table_of(second)) == live
    assert brought_in.counts(table_of(second)) == (RECORDS, RECORDS)
    live_letters = brought_in.rows("SELECT _partition, _offset, reason FROM dead_letters FINAL ORDER BY _partition, _offset")
    assert letters(brought_in, first) == letters(brought_in, second) == live_letters
    assert [(each["rows"], each["dead_letters"], each["whole"]) for each in (one, two)] == [(RECORDS, 3, True)] * 2
    assert tailrace(brought_in, "audit").code == 0, "a run's dead letters are not the live stream's"


def test_the_order_in_which_partitions_come_in_changes_nothing(brought_in: Bench) -> None:
    runs = {order: planned(brought_in) for order in ("min", "max")}

    orders = {
        order: json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.stream_processors.replay_in_order", run, order],
                env=brought_in.environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=True,
            ).stdout
        )
        for order, run in runs.items()
    }

    assert orders == {"min": [0, 1, 2, 3], "max": [3, 2, 1, 0]}
    assert {checksum(brought_in, table_of(run)) for run in runs.values()} == {checksum(brought_in, TABLE)}


def test_a_run_ends_where_it_was_planned_to_and_leaves_live_alone(brought_in: Bench) -> None:
    run = planned(brought_in, "--to", "0:500,3:400", first="0:200,3:350")
    assert asked(brought_in, "replay", "show", run, "--json").fields["manifest"]["ranges"][0]["end"] == 500
    run = planned(brought_in, "--to", "0:450,3:351", first="0:200,3:350")
    before = checksum(brought_in, TABLE)
    brought_in.produce(interactions(brought_in, 500, first=RECORDS))

    said = tailrace(brought_in, "replay", "run", run)

    assert said.code == 0, said.err
    found = brought_in.rows(f"SELECT _partition, min(_offset), max(_offset), _run FROM {table_of(run)} GROUP BY ALL ORDER BY 1")
    assert found == [(0, 200, 449, run), (3, 350, 350, run)]
    assert checksum(brought_in, TABLE) == before
    assert brought_in.drain()["rows"] == 500, "the group's offsets are where they were"


def test_columns_computed_by_the_warehouse_or_by_a_function_change_and_nothing_else_does(
    brought_in: Bench, tmp_path: Path
) -> None:
    (tmp_path / "mending.py").write_text(
        "from dataclasses import replace\n"
        "def louder(event):\n    return replace(event, surface=event.surface.upper(), value=1.5)\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    by_warehouse = filled(brought_in, "--select", "upper(surface) AS surface, 1.5 AS value")
    plan = ("replay", "plan", "--topic", TABLE, "--from", "beginning", "--transform", "mending:louder", "--json")
    by_function = str(tailrace(brought_in, *plan, **environment).fields["run"])

    said = tailrace(brought_in, "replay", "run", by_function, **environment)

    assert said.code == 0, said.err
    assert checksum(brought_in, table_of(by_warehouse)) == checksum(brought_in, table_of(by_function))
    changed = f"SELECT count() FROM {table_of(by_function)} WHERE surface = 'HOME' AND value = 1.5 AND kind = 'click'"
    assert brought_in.rows(changed) == [(RECORDS,)]
    assert len(letters(brought_in, by_warehouse)) == len(letters(brought_in, by_function)) == 3
    (tmp_path / "mending.py").write_text("def louder(event):\n    return event\n")
    changed_since = tailrace(brought_in, "replay", "run", by_function, **environment)
    assert (changed_since.code, "plan it again" in changed_since.err) == (1, True)


def test_a_function_that_raises_makes_dead_letters_and_too_many_of_them_stop_the_run(brought_in: Bench, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "def some(event):\n    assert event.producer_seq % 40, 'a fortieth'\n    return event\n"
        "def most(event):\n    return event if event.producer_seq % 4 == 0 else None\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    plan = ("replay", "plan", "--topic", TABLE, "--from", "beginning", "--json", "--transform")
    some = str(tailrace(brought_in, *plan, "failing:some", **environment).fields["run"])
    most = str(tailrace(brought_in, *plan, "failing:most", **environment).fields["run"])

    assert tailrace(brought_in, "replay", "run", some, "--json", **environment).fields["dead_letters"] == RECORDS // 40 + 3
    reasons = [reason for _, _, reason in letters(brought_in, some)]
    assert reasons.count("transform") == RECORDS // 40
    stopped = tailrace(brought_in, "replay", "run", most, **environment)

    assert stopped.code == 1
    assert "records are poison (transform" in stopped.err
    assert brought_in.counts(table_of(most)) == (0, 0)
    assert letters(brought_in, most) == []


def test_a_select_that_the_engine_cannot_compute_for_a_record_makes_it_a_dead_letter(brought_in: Bench) -> None:
    run = filled(brought_in, "--select", "toString(toUInt8(if(unit_id = 'u77', 'none', '1'))) AS surface")

    assert [reason for _, _, reason in letters(brought_in, run)].count("engine") == 1
    assert brought_in.counts(table_of(run)) == (RECORDS - 1, RECORDS - 1)


def test_a_run_that_is_killed_again_and_again_has_everything_once(brought_in: Bench) -> None:
    run = planned(brought_in)
    for more in (200, 100, 300):
        with running(brought_in, run, more):
            pass
    with running(brought_in, run, 150) as stopped:
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(LIMIT_S) == 1
    before = brought_in.counts(table_of(run))[0]

    last = tailrace(brought_in, "replay", "run", run, "--json").fields

    assert last["rows"] == RECORDS - before
    assert brought_in.counts(table_of(run)) == (RECORDS, RECORDS)
    assert checksum(brought_in, table_of(run)) == checksum(brought_in, TABLE)
    assert len(letters(brought_in, run)) == 3


@contextmanager
def running(bench: Bench, run: str, more: int, rate: int = 300) -> Iterator[subprocess.Popen[str]]:
    """A process that fills a run, slowly, and has brought in so many rows more; killed when the block ends."""
    before = rows_of(bench, run)
    command = bench.command("replay", "run", run, "--batch-rows", "50", "--workers", "2", "--rate", str(rate))
    process = subprocess.Popen(command, env=dict(bench.environment), stderr=subprocess.PIPE, text=True)
    try:
        assert eventually(lambda: rows_of(bench, run) >= before + more, LIMIT_S)
        yield process
    finally:
        process.kill()
        process.communicate()


def rows_of(bench: Bench, run: str) -> int:
    """Also while its table is not there."""
    there = bench.rows(f"SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = '{table_of(run)}'")
    return bench.counts(table_of(run))[0] if there == [(1,)] else 0


def test_a_run_that_a_process_of_this_host_fills_is_left_to_it(brought_in: Bench) -> None:
    run = planned(brought_in)

    with running(brought_in, run, 50, rate=20):
        second = tailrace(brought_in, "replay", "run", run)

    assert (second.code, "is being filled by" in second.err) == (1, True)


def test_a_run_that_another_process_takes_over_ends_and_says_by_whom(brought_in: Bench) -> None:
    run = planned(brought_in)
    elsewhere = f"('{run}', 9, 'running', '{{}}', 'elsewhere:1')"
    with running(brought_in, run, 50, rate=20) as first:
        brought_in.command_sql(f"INSERT INTO replay_steps (run, seq, step, detail, host_pid) VALUES {elsewhere}")

        said = tailrace(brought_in, "replay", "run", run, "--json")

        assert said.fields["whole"], "the last process of another host does not hold it up"
        _, error = first.communicate(timeout=LIMIT_S)
        assert (first.returncode, "was taken over by" in error) == (1, True)
    assert brought_in.counts(table_of(run)) == (RECORDS, RECORDS)


def test_a_rate_is_kept_and_the_figures_stand_in_a_file(brought_in: Bench, tmp_path: Path) -> None:
    run, figures = planned(brought_in, "--to", "0:400", first="0:0"), tmp_path / "replay.prom"
    started = time.monotonic()

    said = tailrace(brought_in, "replay", "run", run, "--rate", "200", "--batch-rows", "50", "--metrics-file", str(figures))

    assert said.code == 0, said.err
    assert time.monotonic() - started >= 400 / 200 - 0.2
    written = figures.read_text().splitlines()
    assert f'tailrace_replay_offsets_done{{run="{run}",table="interactions"}} 400.0' in written
    assert f'tailrace_replay_running{{run="{run}",table="interactions"}} 0.0' in written
    assert "400/400 offsets (100.0 %)" in said.err


def test_a_run_that_nobody_planned_or_whose_table_has_changed_is_refused(brought_in: Bench) -> None:
    run = planned(brought_in)
    brought_in.command_sql("ALTER TABLE interactions ADD COLUMN fresh String DEFAULT 'x'")

    unknown, changed = (tailrace(brought_in, "replay", "run", name) for name in ("r0000-none", run))

    assert (unknown.code, "no run is named r0000-none" in unknown.err) == (1, True)
    assert (changed.code, "has changed since" in changed.err) == (1, True)
    assert asked(brought_in, "replay", "show", "r0000-none").code == 1
    [listed] = asked(brought_in, "replay", "list", "--json").fields["runs"]
    assert (listed["run"], listed["state"]) == (run, State.PLANNED)
