"""What emitting costs its caller: `emit` beside encoding on the caller's thread, with the broker there and with it hanging."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers.config import Durability
from producers.emitter import Emitter
from producers.main import emitter_from_environment
from schemas.codec import Codec
from schemas.events import Event
from tests.benchmarks.figures import percentile
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_most
from tests.benchmarks.workloads import WORKLOADS
from tests.waiting import eventually

CONTROL, ENCODE = "nothing", "encode in place"
EVENTS_S = 1_000
P50_RATIO_MAX, P99_RATIO_MAX, DOWN_RATIO_MAX = 1.25, 1.5, 2.0
CLOSE_S = 20.0
DIVERTED_LIMIT_S = 20.0
_WORKLOAD = WORKLOADS["nested"]
_HOW = f"""Recommendations of ten slots and three assignments, one due every {1_000_000 // EVENTS_S:,} µs, as requests are: a
call's time is that of the call alone, its lateness runs from when it was due, so a pause of the process counts against every call
that it holds up. Beside each other, in turns: a loop that does nothing at that time, one that encodes the event where it is (the
codec, nearly all of it fastavro's), one that emits, with each durability; first with the broker there, then with the broker
stopped (SIGSTOP), after the emitter has noticed."""


@dataclass(frozen=True, slots=True)
class Extent:
    calls: int
    turns: int
    warm_up_calls: int


FULL = Extent(5_000, 3, 1_000)
QUICK = Extent(300, 1, 100)

Call = Callable[[Event], object]


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    """Calls in µs, by what was done: all turns together."""
    extent = QUICK if asked.quick else FULL
    up: dict[str, list[dict[str, float]]] = {}
    down: dict[str, list[dict[str, float]]] = {}
    with ground.place("emit") as place, tempfile.TemporaryDirectory(prefix="tailrace-emit-") as root:
        for turn in range(extent.turns):
            ground.say(f"emit {turn + 1}/{extent.turns}: the broker is there")
            for name, call in _calls(place, Path(root)):
                with call as made:
                    up.setdefault(name, []).append(_paced(made, extent))
        for turn in range(extent.turns):
            ground.say(f"emit {turn + 1}/{extent.turns}: the broker hangs")
            with ground.stack.hanging("kafka"):
                for name, call in _calls(place, Path(root)):
                    with call as made:
                        down.setdefault(name, []).append(_paced(made, extent))
    return {"events_per_s": EVENTS_S, "calls": extent.calls, "up": up, "down": down}


def present(measured: Mapping[str, Any]) -> Section:
    up, down = (_medians(measured[state]) for state in ("up", "down"))
    columns = ("p50", "p99", "p99.9", "longest", "late p99", "late p99.9", "latest")
    tables = [
        Table((f"µs, the broker {state}", *columns), [(name, *(f"{row[c]:,.1f}" for c in columns)) for name, row in rows.items()])
        for state, rows in (("is there", up), ("hangs", down))
    ]
    targets = []
    for mode in Durability:
        targets += [
            at_most(f"{mode}: p50 beside encoding in place", P50_RATIO_MAX, up[mode]["p50"] / up[ENCODE]["p50"], "×"),
            at_most(f"{mode}: p99 beside encoding in place", P99_RATIO_MAX, up[mode]["p99"] / up[ENCODE]["p99"], "×"),
            at_most(f"{mode}: p50 without a broker", DOWN_RATIO_MAX, down[mode]["p50"] / up[mode]["p50"], "×"),
            at_most(f"{mode}: p99 without a broker", DOWN_RATIO_MAX, down[mode]["p99"] / up[mode]["p99"], "×"),
        ]
    return Section("What emitting costs its caller", _HOW, tables, targets)


def _medians(turns: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each figure the median over the turns."""
    return {
        name: {figure: percentile([row[figure] for row in rows] * 2, 50) for figure in rows[0]} for name, rows in turns.items()
    }


def _calls(place: Place, root: Path) -> Iterator[tuple[str, Any]]:
    yield CONTROL, _plain(lambda _event: None)
    codec: Codec[Any] = Codec(type(_WORKLOAD.make(0)))
    yield ENCODE, _plain(lambda event: codec.encode(event, 1))
    for durability in Durability:
        yield durability, _emitting(place, root, durability)


@contextmanager
def _plain(call: Call) -> Iterator[Call]:
    yield call


@contextmanager
def _emitting(place: Place, root: Path, durability: Durability) -> Iterator[Call]:
    """An emitter that has found out how the broker is."""
    spool = {} if durability is Durability.MEMORY else {"TAILRACE_SPOOL_DIR": str(root / durability)}
    emitter = emitter_from_environment({**place.variables, "TAILRACE_EMITTER_DURABILITY": durability, **spool})
    try:
        emitter.emit(_WORKLOAD.make(0))
        eventually(lambda: _knows(emitter, durability), DIVERTED_LIMIT_S if spool else 1.0)
        yield emitter.emit
    finally:
        emitter.close(CLOSE_S if spool else 1.0)


def _knows(emitter: Emitter, durability: Durability) -> bool:
    status = emitter.status()
    return status.topics[0].acknowledged > 0 or (status.dispatched.diverted and durability is not Durability.MEMORY)


def _paced(call: Call, extent: Extent) -> dict[str, float]:
    events = [_WORKLOAD.make(number) for number in range(100)]
    took, late = [0.0] * extent.calls, [0.0] * extent.calls
    gc.collect()
    began = time.perf_counter() + extent.warm_up_calls / EVENTS_S
    for number in range(-extent.warm_up_calls, extent.calls):
        due = began + number / EVENTS_S
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        start = time.perf_counter()
        call(events[number % 100])
        end = time.perf_counter()
        if number >= 0:
            took[number], late[number] = (end - start) * 1e6, (end - due) * 1e6
    return {
        "p50": percentile(took, 50),
        "p99": percentile(took, 99),
        "p99.9": _per_mille(took, 999),
        "longest": max(took),
        "late p99": percentile(late, 99),
        "late p99.9": _per_mille(late, 999),
        "latest": max(late),
    }


def _per_mille(values: list[float], per_mille: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * per_mille // 1_000)]
