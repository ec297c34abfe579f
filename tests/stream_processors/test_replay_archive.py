"""Replays that read from the archive: what Kafka has let go of, damage, poison, kills; the same rows as from Kafka."""

import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.stream_processors.replay_fixture import TABLE, Said, asked, checksum, letters, planned, table_of, tailrace
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMIT_S = 60
KILLS = int(os.environ.get("TAILRACE_ARCHIVE_KILLS", "4"))
"""Kills of one run; a long run of the tests sets more."""
RECORDS = max(2000, 400 * KILLS)
"""Enough for every kill to find work under way."""
SEED = int(os.environ.get("TAILRACE_ARCHIVE_SEED", "7"))
POISON: list[bytes | None] = [b"\x00\x00\x00\xff\xffno schema", None, b"no frame", b""]


@pytest.fixture
def archived(bench: Bench, tmp_path: Path) -> Bench:
    """A stretch, some poison in it, that the live sink has brought in and the archive holds in files of some hundred records."""
    values: list[bytes | None] = list(interactions(bench, RECORDS))
    values[700:700] = [*POISON, values[0] + b"!" if values[0] else None]
    bench.produce(values)
    bench.drain(TAILRACE_SINK_BATCH_ROWS_MAX="900")
    stored = Bench(
        {**bench.environment, "TAILRACE_ARCHIVE_URL": f"file://{tmp_path}/archive", "TAILRACE_ARCHIVE_ROWS_MAX": "150"}
    )
    kept(stored)
    return stored


def kept(bench: Bench) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    said = asked(bench, "archive", "run")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert said.code == 0, said.err


def expire(bench: Bench, share: float) -> dict[int, int]:
    """Retention takes the beginning of each partition; its new first offset."""
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    ends = dict(bench.rows(f"SELECT _partition, max(_offset) + 1 FROM {TABLE} GROUP BY 1"))
    firsts = {partition: int(end * share) for partition, end in ends.items()}
    asked_for = [TopicPartition(bench.topic(), partition, offset) for partition, offset in firsts.items()]
    for answer in admin.delete_records(asked_for).values():
        answer.result(FLUSH_LIMIT_S)
    return firsts


def run_of(bench: Bench, run: str, *options: str) -> Said:
    return tailrace(bench, "replay", "run", run, *options)


def live_letters(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows("SELECT _partition, _offset, reason FROM dead_letters FINAL ORDER BY _partition, _offset")


def test_half_of_a_range_that_retention_took_comes_from_the_archive_and_without_one_is_named(archived: Bench) -> None:
    firsts = expire(archived, 0.5)

    without = asked(archived, "replay", "plan", "--topic", TABLE, "--from", "0")
    assert without.code == 1
    for partition, first in firsts.items():
        assert f"partition {partition}: 0–{first - 1} (expired: Kafka's log begins at {first}" in without.err

    run = planned(archived, "--source", "auto")
    ranges = asked(archived, "replay", "show", run, "--json").fields["manifest"]["ranges"]
    assert {each["partition"]: [(piece["source"], piece["first"]) for piece in each["pieces"]] for each in ranges} == {
        partition: [("archive", 0), ("kafka", first)] for partition, first in firsts.items()
    }
    said = run_of(archived, run)

    assert said.code == 0, said.err
    assert checksum(archived, table_of(run)) == checksum(archived, TABLE)
    assert archived.counts(table_of(run)) == (RECORDS, RECORDS)
    assert letters(archived, run) == live_letters(archived)
    verified = asked(archived, "replay", "verify", run)
    assert verified.code == 0, verified.out + verified.err


def test_from_the_archive_alone_a_stretch_is_the_same_as_from_kafka_also_where_it_begins_and_ends_within_files(
    archived: Bench,
) -> None:
    stretch = ("--to", "0:431,2:299")
    ways = [planned(archived, *stretch, "--source", source, first="0:77,2:1") for source in ("kafka", "archive")]

    for run in ways:
        assert run_of(archived, run).code == 0

    one, other = ways
    assert checksum(archived, table_of(one)) == checksum(archived, table_of(other))
    assert letters(archived, one) == letters(archived, other)
    assert run_of(archived, other, "--rate", "100000").code == 0, "what is in is in"
    assert archived.counts(table_of(other)) == archived.counts(table_of(one))


def test_a_file_that_the_engine_refuses_is_examined_and_only_its_bad_records_become_dead_letters(archived: Bench) -> None:
    cannot_be_computed = "toString(toUInt8(if(unit_id = 'u77', 'none', '1'))) AS surface"
    run = planned(archived, "--source", "archive", "--select", cannot_be_computed)

    said = run_of(archived, run)

    assert said.code == 0, said.err
    assert archived.counts(table_of(run)) == (RECORDS - 1, RECORDS - 1)
    assert [reason for _, _, reason in letters(archived, run)].count("engine") == 1


def test_a_damaged_file_ends_the_run_clearly_nothing_of_it_goes_in_and_once_mended_the_run_goes_on(archived: Bench) -> None:
    path = max(Path(archived.environment["TAILRACE_ARCHIVE_URL"].removeprefix("file://")).rglob("*.avro"))
    content = path.read_bytes()
    first, end = map(int, path.name.split(".")[0].split("-"))
    within = f"_partition = {path.parent.name} AND _offset >= {first} AND _offset < {end}"
    run = planned(archived, "--source", "archive")

    for damage, damaged in (("altered", content[:-9] + bytes(9)), ("truncated", content[:-9]), ("missing", None)):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        said = run_of(archived, run)
        assert (said.code, path.name in said.err, damage in said.err) == (1, True, True), said.err
        assert archived.rows(f"SELECT count() FROM {table_of(run)} WHERE {within}") == [(0,)]

    path.write_bytes(content)
    assert run_of(archived, run).code == 0
    assert checksum(archived, table_of(run)) == checksum(archived, TABLE)


def test_a_run_from_the_archive_that_is_killed_again_and_again_beside_live_traffic_has_everything_once(archived: Bench) -> None:
    draw = random.Random(SEED)
    live = checksum(archived, TABLE)
    run = planned(archived, "--source", "archive")
    sink = subprocess.Popen(
        archived.command("sink"), env=archived.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for kill in range(KILLS):
            archived.produce(interactions(archived, 50, first=RECORDS + 50 * kill))
            before = rows_of(archived, run)
            command = archived.command("replay", "run", run, "--rate", "800")
            running = subprocess.Popen(command, env=archived.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            assert eventually(partial(moved, archived, run, before, running), LIMIT_S), "the run gets on"
            time.sleep(draw.random() * 0.2)  # anywhere in what it does
            assert running.poll() is None, "killed at work"
            running.kill()
            running.communicate()
        said = run_of(archived, run)
        assert said.code == 0, said.err
        assert eventually(lambda: archived.counts()[0] == RECORDS + 50 * KILLS, LIMIT_S), "the sink was not disturbed"
    finally:
        sink.kill()
        sink.wait(LIMIT_S)

    assert archived.counts(table_of(run)) == (RECORDS, RECORDS), "without FINAL: copies would show"
    assert checksum(archived, table_of(run)) == live
    assert archived.counts() == (RECORDS + 50 * KILLS, RECORDS + 50 * KILLS)
    assert letters(archived, run) == live_letters(archived)


def moved(bench: Bench, run: str, before: int, running: "subprocess.Popen[bytes]") -> bool:
    return running.poll() is not None or rows_of(bench, run) > before


def rows_of(bench: Bench, run: str) -> int:
    there = bench.rows(f"SELECT total_rows FROM system.tables WHERE database = currentDatabase() AND name = '{table_of(run)}'")
    return int(there[0][0] or 0) if there else 0


def test_columns_computed_by_the_warehouse_and_by_a_function_come_from_the_archive_as_well(
    archived: Bench, tmp_path: Path
) -> None:
    (tmp_path / "repairs.py").write_text(
        "from dataclasses import replace\n\n\ndef mend(event):\n    return replace(event, kind='mended')\n"
    )
    environment = {**archived.environment, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}:{Path.cwd()}"}
    bench = Bench(environment)
    for options in (("--select", "'mended' AS kind"), ("--transform", "repairs:mend")):
        said = tailrace(
            bench, "replay", "plan", "--topic", TABLE, "--from", "beginning", "--source", "archive", *options, "--json"
        )
        assert said.code == 0, said.err
        run = said.fields["run"]
        done = run_of(bench, run)
        assert done.code == 0, done.err
        assert bench.rows(f"SELECT kind, count() FROM {table_of(run)} GROUP BY 1") == [("mended", RECORDS)]
