"""What an answer of ten slots costs a worker, by event loop and parser, with emission and without."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_least
from tests.blast_radius.figures import latency_ms
from tests.blast_radius.load import Block
from tests.blast_radius.workers import Load, block, on, worker, write_catalogue

CALM_REQUESTS_S, BUSY_REQUESTS_S = 500, 2_000
BLOCK_S, QUICK_BLOCK_S = 8.0, 1.0
REQUESTS_S_MIN = 3_000
OURS = "uvloop, httptools"
_HOW = f"""The worker and all its threads have one core, its load the other, Kafka either. Open-loop load of ten slots out of a
hundred items, {CALM_REQUESTS_S} and {BUSY_REQUESTS_S} requests a second; a latency counts from when its request was due. CPU is
the worker's, its emitter's thread and Kafka's client included, at the busy rate; a core serves 1 s ÷ that."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    arguments: tuple[str, ...]


CONTENDERS = (
    Contender(OURS, ("uvloop", "httptools")),
    Contender("asyncio, httptools", ("asyncio", "httptools")),
    Contender("asyncio, h11", ("asyncio", "h11")),
    Contender(f"{OURS}, no emission", ("uvloop", "httptools", "silent")),
)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    """By contender."""
    seconds = QUICK_BLOCK_S if asked.quick else BLOCK_S
    with ground.place("serving") as place, tempfile.TemporaryDirectory() as directory:
        return {each.name: _measured(ground, place, Path(directory), each, seconds) for each in CONTENDERS}


def present(measured: Mapping[str, Any]) -> Section:
    rows = [
        (
            name,
            f"{found['cpu_us']:.0f}",
            f"{1e6 / found['cpu_us']:,.0f}",
            *(f"{found[rate][figure]:.2f}" for rate in ("calm", "busy") for figure in ("p50_ms", "p99_ms")),
            f"{found['calm']['failed'] + found['busy']['failed']}",
        )
        for name, found in measured.items()
    ]
    columns = ("worker", "CPU µs/request", "requests/s a core", "calm p50 ms", "p99 ms", "busy p50 ms", "p99 ms", "failed")
    target = at_least("requests/s of one core", REQUESTS_S_MIN, 1e6 / measured[OURS]["cpu_us"], "/s")
    return Section("Answering over HTTP", _HOW, [Table(columns, rows)], [target])


def _measured(ground: Ground, place: Place, directory: Path, contender: Contender, seconds: float) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    variables = {
        **place.variables,
        "TAILRACE_CATALOGUE_FILE": str(write_catalogue(directory)),
        "TAILRACE_SERVING_SEED": "1",
        "TAILRACE_DRAIN_MS": "0",
    }
    served = ("tests.benchmarks.served", *contender.arguments)
    with on(cores[1:] or cores), worker(variables, directory / "served.log", cores[:1], *served) as found:
        block(found, Load(CALM_REQUESTS_S, 1.0))
        calm = block(found, Load(CALM_REQUESTS_S, seconds))
        before = sum(found.process.cpu_times()[:2])
        busy = block(found, Load(BUSY_REQUESTS_S, seconds))
        cpu_us = (sum(found.process.cpu_times()[:2]) - before) / len(busy.latencies_ms) * 1e6
    ground.say(f"serving, {contender.name}: {cpu_us:.0f} µs a request")
    return {"cpu_us": cpu_us, "calm": _figures(calm), "busy": _figures(busy)}


def _figures(block: Block) -> dict[str, float]:
    return {"p50_ms": latency_ms(block, 0.5), "p99_ms": latency_ms(block, 0.99), "failed": block.failed}
