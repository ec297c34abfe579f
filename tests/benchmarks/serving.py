"""What an answer of ten slots costs a worker, by event loop and parser, with emission and without."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_least
from tests.blast_radius.figures import latency_ms
from tests.blast_radius.ground import CATALOGUE
from tests.blast_radius.load import Block

CALM_REQUESTS_S, BUSY_REQUESTS_S = 500, 2_000
BLOCK_S, QUICK_BLOCK_S = 8.0, 1.0
BLOCK_LIMIT_S = 120
END_LIMIT_S = 30
REQUESTS_S_MIN = 3_000
OURS = "uvloop, httptools"
_HOW = f"""The worker has one core, its load, Kafka and all else the other. Open-loop load of ten slots out of a hundred items,
{CALM_REQUESTS_S} and {BUSY_REQUESTS_S} requests a second; a latency counts from when its request was due. CPU is the worker's,
its emitter's thread and Kafka's client included, at the busy rate; a core serves 1 s ÷ that."""


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
    with _serving(place, directory, contender) as (process, url):
        process.cpu_affinity(cores[:1])
        _block(url, CALM_REQUESTS_S, 1.0, cores)
        calm = _block(url, CALM_REQUESTS_S, seconds, cores)
        before = sum(process.cpu_times()[:2])
        busy = _block(url, BUSY_REQUESTS_S, seconds, cores)
        cpu_us = (sum(process.cpu_times()[:2]) - before) / len(busy.latencies_ms) * 1e6
    ground.say(f"serving, {contender.name}: {cpu_us:.0f} µs a request")
    return {"cpu_us": cpu_us, "calm": _figures(calm), "busy": _figures(busy)}


def _figures(block: Block) -> dict[str, float]:
    return {"p50_ms": latency_ms(block, 0.5), "p99_ms": latency_ms(block, 0.99), "failed": block.failed}


@contextmanager
def _serving(place: Place, directory: Path, contender: Contender) -> Iterator[tuple[psutil.Process, str]]:
    catalogue = directory / "catalogue.json"
    catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
    variables = {**os.environ, **place.variables, "TAILRACE_CATALOGUE_FILE": str(catalogue), "TAILRACE_SERVING_SEED": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.served", *contender.arguments]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield psutil.Process(process.pid), process.stdout.readline().removeprefix("serving on ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=END_LIMIT_S)


def _block(url: str, rate: int, seconds: float, cores: list[int]) -> Block:
    command = [sys.executable, "-m", "tests.blast_radius.load", url, str(rate), str(seconds), "0"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=BLOCK_LIMIT_S,
        preexec_fn=lambda: os.sched_setaffinity(0, cores[1:] or cores),
    )
    return Block(**json.loads(done.stdout))
