"""The sink under load while the warehouse is away: what it holds in memory, and how fast it makes up for it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from tests.benchmarks.figures import deviation
from tests.benchmarks.filling import fill
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_least, at_most
from tests.benchmarks.workloads import WORKLOADS
from tests.waiting import eventually

SAMPLE_S = 1.0
CATCH_UP_LIMIT_S = 1200
CAUGHT_UP_S = 1.0
"""Caught up is: no more is missing than comes in so long."""
JOIN_LIMIT_S = 10
DEVIATION_PERCENT_MAX = 10.0
CATCH_UP_MIN = 2.0
_WORKLOAD = WORKLOADS["flat"]
_HOW = """`tailrace sink` with its defaults first brings in a backlog as fast as it can, so that its memory has been at its
limits once. Then flat events come at a live rate, and the warehouse is killed and stays away. Resident memory is sampled
every second; flat is how far any sample lies from the median, from when what it holds in hand has had time to reach its bound
until the warehouse is back. The rate of catching up counts from the warehouse's first answer, the sink's own pauses included,
until no more is missing than comes in a second."""


@dataclass(frozen=True, slots=True)
class Extent:
    backlog_rows: int
    live_rows_per_s: int
    settle_s: float
    fill_s: float
    """Into the outage: what is in hand has reached its bound by then."""


FULL = Extent(500_000, 10_000, 15.0, 20.0)
QUICK = Extent(10_000, 1_000, 3.0, 2.0)
QUICK_MINUTES = 0.1


@dataclass
class _Memory:
    """(seconds since the start, resident bytes) of one process."""

    process: psutil.Process
    samples: list[tuple[float, int]]
    started_s: float

    def now_s(self) -> float:
        return time.perf_counter() - self.started_s


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent, minutes = (QUICK, QUICK_MINUTES) if asked.quick else (FULL, asked.outage_minutes)
    with ground.place("outage") as place:
        ground.say(f"outage: writing a backlog of {extent.backlog_rows:,} records")
        fill(place.variables, _WORKLOAD, extent.backlog_rows)
        with place.running("deploy.cli", "sink") as sink, _sampled(psutil.Process(sink.pid)) as memory:
            assert eventually(lambda: place.count(_WORKLOAD.table) >= extent.backlog_rows, CATCH_UP_LIMIT_S), "the backlog is in"
            with place.running("tests.benchmarks.live", _WORKLOAD.name, str(extent.live_rows_per_s)):
                return {"minutes": minutes, "live_rows_per_s": extent.live_rows_per_s} | _go_away(
                    ground, place, memory, extent, minutes
                )


def _go_away(ground: Ground, place: Place, memory: _Memory, extent: Extent, minutes: float) -> dict[str, Any]:
    threading.Event().wait(extent.settle_s)
    ground.say(f"outage: the warehouse is away for {minutes:g} min")
    began_s = memory.now_s()
    with ground.stack.stopped("warehouse"):
        threading.Event().wait(minutes * 60)
        ended_s = memory.now_s()
    back_s, rows_then = memory.now_s(), place.count(_WORKLOAD.table)
    ground.say("outage: catching up")
    enough = extent.live_rows_per_s * CAUGHT_UP_S
    assert eventually(lambda: place.records(_WORKLOAD.topic) - place.count(_WORKLOAD.table) <= enough, CATCH_UP_LIMIT_S), (
        "caught up"
    )
    caught_up_s, rows_now = memory.now_s(), place.count(_WORKLOAD.table)
    return {
        "began_s": began_s,
        "filled_s": began_s + extent.fill_s,
        "ended_s": ended_s,
        "catch_up_s": caught_up_s - back_s,
        "catch_up_rows": rows_now - rows_then,
        "settle_s": extent.settle_s,
        "rss_bytes": memory.samples,
    }


@contextmanager
def _sampled(process: psutil.Process) -> Iterator[_Memory]:
    memory, ending = _Memory(process, [], time.perf_counter()), threading.Event()

    def sample() -> None:
        while not ending.wait(SAMPLE_S):
            memory.samples.append((round(memory.now_s(), 1), process.memory_info().rss))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        ending.set()
        thread.join(JOIN_LIMIT_S)


def present(measured: Mapping[str, Any]) -> Section:
    before = _between(measured, measured["began_s"] - measured["settle_s"], measured["began_s"])
    during = _between(measured, measured["filled_s"], measured["ended_s"])
    rate = measured["catch_up_rows"] / measured["catch_up_s"]
    lines = [
        ("outage, min", f"{measured['minutes']:g}"),
        ("live rate, records/s", f"{measured['live_rows_per_s']:,}"),
        ("memory before it, MiB", f"{median(before):.0f}"),
        ("memory in it, median, MiB", f"{median(during):.0f}"),
        ("memory in it, least–most, MiB", f"{min(during):.0f}–{max(during):.0f}"),
        ("caught up after, s", f"{measured['catch_up_s']:.1f}"),
        ("rate of catching up, records/s", f"{rate:,.0f}"),
    ]
    targets = [
        at_most("memory in the outage, farthest from its median", DEVIATION_PERCENT_MAX, deviation(during) * 100, "%"),
        at_least("catching up ÷ live rate", CATCH_UP_MIN, rate / measured["live_rows_per_s"]),
    ]
    return Section("An outage of the warehouse", _HOW, [Table(("outage", "figure"), lines)], targets)


def _between(measured: Mapping[str, Any], first_s: float, end_s: float) -> list[float]:
    """MiB."""
    return [rss / (1 << 20) for at_s, rss in measured["rss_bytes"] if first_s <= at_s < end_s]
