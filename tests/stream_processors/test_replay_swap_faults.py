"""Swaps and rollbacks that are killed anywhere, beside a live sink, its producer and a reader.

TAILRACE_REPLAY_FAULT_POINTS=all kills at every write of both directions, each finished once and undone once.
"""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.exchange import unfinished
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import RunStore, State
from stream_processors.replay.swap import Swapper, is_swapped
from stream_processors.replay.swapping import swapper
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from tests.faults.stack import LocalStack
from tests.stream_processors.replay_runs import (
    TABLE,
    Reader,
    extents,
    filled,
    meddled_swaps,
    planned,
    spoil,
    state_sql,
    warehouse_writer,
)
from tests.stream_processors.warehouse_fixture import CLASSIC, Bench, interactions
from tests.waiting import eventually

log = logging.getLogger(__name__)

pytestmark = pytest.mark.integration

RUN = "r1123-bbbbbb"
HISTORY = 400
LIMIT_S = 60
SEED = 6
SHORT_POINTS = 6
POINTS_MAX = 100
POINTS_SURE = 36
"""Each action has at least so many."""
LONG = os.environ.get("TAILRACE_REPLAY_FAULT_POINTS") == "all"
PACE_S = 0.25 if LONG else 0.05
"""Between two handfuls of live events, each of which becomes a part: a day of ten thousand is slow to compose."""


class Blow(NamedTuple):
    """Kill `action` at the `point`-th place of it (replay_to_be_killed.py); then carry on with `then`."""

    action: str
    point: int
    then: str


@contextmanager
def live_traffic(bench: Bench) -> Iterator[Callable[[], int]]:
    """A sink that runs and a producer that goes on; gives how many records were written."""
    sink = subprocess.Popen(
        bench.command("sink"),
        env={**bench.environment, "TAILRACE_KAFKA_OPTIONS": CLASSIC, "TAILRACE_SINK_BATCH_AGE_MS_MAX": str(int(PACE_S * 400))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ended, written = threading.Event(), [HISTORY]

    def produce() -> None:
        while not ended.wait(PACE_S):
            bench.produce(interactions(bench, 20, written[0]))
            written[0] += 20

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield lambda: written[0]
    finally:
        ended.set()
        thread.join()
        assert eventually(lambda: _missing(bench, written[0]) == 0, LIMIT_S), f"{_missing(bench, written[0])} are missing"
        sink.send_signal(signal.SIGTERM)
        assert sink.wait(LIMIT_S) == 0


def _missing(bench: Bench, written: int) -> int:
    """Of the live part, which is never spoilt: all offsets past the run's."""
    there: int
    [(there,)] = bench.rows(f"SELECT uniqExact(event_id) FROM {TABLE} WHERE producer_seq >= {HISTORY}")
    return written - HISTORY - there


def killed(bench: Bench, blow: Blow) -> bool:
    """Whether the point was reached."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.stream_processors.replay_to_be_killed", blow.action, RUN, str(blow.point)],
        env=bench.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def blows() -> Iterator[Blow]:
    everything = [
        Blow(action, point, then) for action in ("swap", "rollback") for point in range(POINTS_MAX) for then in ("again", "abort")
    ]
    if LONG:
        yield from everything
        return
    reached = [blow for blow in everything if blow.point < POINTS_SURE]
    yield from sorted(random.Random(SEED).sample(reached, SHORT_POINTS))


@pytest.fixture
def writer(bench: Bench) -> Iterator[ClickHouseWriter]:
    with warehouse_writer(bench) as opened:
        yield opened


def test_killed_anywhere_it_is_finished_or_undone_and_nobody_sees_half(bench: Bench, writer: ClickHouseWriter) -> None:
    bench.produce(interactions(bench, HISTORY))
    bench.drain()
    manifest = planned(writer, bench, RUN, extents(bench))
    filled(writer, manifest, State.VERIFIED)
    spoil(bench, manifest)
    spoilt = _seen(bench, manifest)
    store = RunStore(writer)
    repaired = _repaired(bench, manifest)

    with live_traffic(bench), desk(bench) as swaps, Reader(bench, state_sql(manifest)) as reader:
        struck, ended = 0, set[str]()
        for blow in blows():
            if blow.action in ended:
                continue
            _bring_to(swaps, store, swapped=blow.action == "rollback")
            if not killed(bench, blow):
                ended.add(blow.action)
                continue
            struck += 1
            log.info("blow %d: %s", struck, blow)
            _carry_on(swaps, store, blow)
            run = store.get(RUN)
            assert run is not None
            assert unfinished(run) is None, blow
            assert _seen(bench, manifest) == (repaired if is_swapped(run) else spoilt), blow
            assert set(reader.answers) <= {spoilt, repaired}, blow
            assert _copies(bench) == 0, blow
            assert bench.rows("SELECT table_name FROM ingest_hold WHERE held != 0") == [], blow
            assert bench.rows("SELECT name FROM system.tables WHERE name LIKE 'staging%' AND database = currentDatabase()") == []
    assert _copies(bench) == 0
    assert struck >= SHORT_POINTS // 2, struck
    log.info("%d blows, %d readings, %d changes seen", struck, reader.asked, len(reader.answers) - 1)


@pytest.mark.parametrize("before", ["INSERT INTO ingest_hold", "EXCHANGE", "INSERT INTO ingest_fence"])
def test_a_swap_outlives_the_warehouses_death(bench: Bench, writer: ClickHouseWriter, before: str) -> None:
    """The hold may be forgotten by it, and the fence is. A sink comes while the swap is in between."""
    bench.produce(interactions(bench, 100))
    bench.drain()
    manifest = planned(writer, bench, RUN, extents(bench))
    filled(writer, manifest, State.VERIFIED)
    spoil(bench, manifest)
    repaired = _repaired(bench, manifest)
    stack = LocalStack(Path(bench.environment["TAILRACE_HOME"]), bench.environment)
    bench.produce(interactions(bench, 50, 100))

    def die() -> None:
        stack.kill("warehouse")
        stack.await_ready("warehouse")

    with meddled_swaps(bench, before, die) as swaps:
        swaps.swap(RUN)
    bench.drain()

    assert _seen(bench, manifest) == repaired
    assert bench.counts() == (150, 150)
    assert bench.rows("SELECT table_name FROM ingest_hold WHERE held != 0") == []


def _carry_on(swaps: Swapper, store: RunStore, blow: Blow) -> None:
    """Finished by the same command, or undone by `abort`, which says no where readers have the new rows: then by the other."""
    run = store.get(RUN)
    assert run is not None
    if unfinished(run) is None:
        return
    if blow.then == "again":
        _carried_out(swaps, blow.action)
        finished = store.get(RUN)
        assert finished is not None
        assert is_swapped(finished) == (blow.action == "swap"), blow
        return
    try:
        swaps.abort(RUN)
    except ReplayRefused:
        swaps.rollback(RUN)


def _bring_to(swaps: Swapper, store: RunStore, *, swapped: bool) -> None:
    run = store.get(RUN)
    assert run is not None
    if is_swapped(run) != swapped:
        _carried_out(swaps, "swap" if swapped else "rollback")


def _carried_out(swaps: Swapper, action: str) -> None:
    if action == "swap":
        swaps.swap(RUN)
    else:
        swaps.rollback(RUN)


@contextmanager
def desk(bench: Bench) -> Iterator[Swapper]:
    with swapper(ReplayConfig.from_environment(bench.environment), log.info) as opened:
        yield opened


def _copies(bench: Bench) -> int:
    rows, coordinates = bench.counts()
    return rows - coordinates


def _seen(bench: Bench, manifest: Manifest) -> str:
    [row] = bench.rows(state_sql(manifest))
    return "\t".join(map(str, row))


def _repaired(bench: Bench, manifest: Manifest) -> str:
    [row] = bench.rows(state_sql(manifest).replace(f"FROM {TABLE}", f"FROM {manifest.run_table}"))
    return "\t".join(map(str, row))
