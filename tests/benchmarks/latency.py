"""From the event to a SELECT that sees it, while records come at half the rate that the sink can take."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.contenders import SINK
from tests.benchmarks.contending import contend
from tests.benchmarks.figures import percentile
from tests.benchmarks.filling import fill
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_most
from tests.benchmarks.probes import INTERVAL_S, LOOK_S, Probes, latencies
from tests.benchmarks.throughput import sink_rows_per_s
from tests.benchmarks.workloads import WORKLOADS
from tests.waiting import eventually

LOAD_SHARE = 0.5
WARM_UP_S = 10.0
FIRST_ROWS = 1_000
"""In before the load begins: the sink's start, and what piles up in it, is another matter."""
START_LIMIT_S = 60
P95_S_MAX, P99_S_MAX = 1.0, 3.0
_WORKLOAD = WORKLOADS["flat"]
_HOW = f"""A producer with the emitter's own options (50 ms of lingering, lz4, idempotent) writes flat events into four
partitions at half of the rate that the sink reached in this run; the sink runs as `tailrace sink` with its defaults. Beside
it, a probe is due every {INTERVAL_S * 1000:.0f} ms, partition by partition. Its time ends when a SELECT sees it, asked every
{LOOK_S * 1000:.0f} ms: the looks and the load's own producer share the two cores, and are in the figure."""


@dataclass(frozen=True, slots=True)
class Extent:
    seconds: float
    rows_of_the_maximum: int
    """Where this run has not measured the maximum already."""


FULL = Extent(60.0, 1_000_000)
QUICK = Extent(3.0, 20_000)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent = QUICK if asked.quick else FULL
    with ground.place("latency_maximum") as place:
        maximum = _maximum(ground, place, asked, extent.rows_of_the_maximum)
    with ground.place("latency") as place:
        return {"maximum_rows_per_s": maximum, "wanted_rows_per_s": maximum * LOAD_SHARE} | _under_load(
            ground, place, maximum * LOAD_SHARE, extent.seconds
        )


def _maximum(ground: Ground, place: Place, asked: Asked, rows: int) -> float:
    if "throughput" in asked.found:
        return sink_rows_per_s(asked.found["throughput"], _WORKLOAD.name)
    ground.say("latency: measuring the maximum first")
    fill(place.variables, _WORKLOAD, rows)
    return contend(place, SINK, _WORKLOAD, rows).rows_per_s


def _under_load(ground: Ground, place: Place, records_per_s: float, seconds: float) -> dict[str, Any]:
    probes = Probes(place)
    fill(place.variables, _WORKLOAD, FIRST_ROWS)
    with ExitStack() as running:
        running.enter_context(place.running("deploy.cli", "sink"))
        assert eventually(lambda: place.count(_WORKLOAD.table) >= FIRST_ROWS, START_LIMIT_S), "the sink has started"
        running.enter_context(place.running("tests.benchmarks.live", _WORKLOAD.name, str(records_per_s)))
        assert eventually(lambda: place.count(_WORKLOAD.table) > FIRST_ROWS, START_LIMIT_S), "the load has begun"
        threading.Event().wait(WARM_UP_S)
        ground.say(f"latency: probing for {seconds:.0f} s at {records_per_s:,.0f} records/s")
        before = place.records(_WORKLOAD.topic)
        with probes.running():
            threading.Event().wait(seconds)
            written = place.records(_WORKLOAD.topic) - before
    return {
        "seconds": seconds,
        "written": written,
        "latencies_s": [round(each, 4) for each in latencies(probes.sent, probes.seen)],
    }


def present(measured: Mapping[str, Any]) -> Section:
    found = measured["latencies_s"]
    figures = {"p50": percentile(found, 50), "p95": percentile(found, 95), "p99": percentile(found, 99), "max": max(found)}
    lines = [
        ("maximum of the sink, records/s", f"{measured['maximum_rows_per_s']:,.0f}"),
        ("wanted, records/s", f"{measured['wanted_rows_per_s']:,.0f}"),
        ("written, records/s", f"{measured['written'] / measured['seconds']:,.0f}"),
        ("probes", f"{len(found):,}"),
        *((f"{name}, s", f"{value:.3f}") for name, value in figures.items()),
    ]
    targets = [at_most("p95", P95_S_MAX, figures["p95"], "s"), at_most("p99", P99_S_MAX, figures["p99"], "s")]
    return Section(
        "From the event to a SELECT that sees it", _HOW, [Table(("latency at half of the maximum", "figure"), lines)], targets
    )
