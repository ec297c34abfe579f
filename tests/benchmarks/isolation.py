"""What it costs to rank in another process: the way there and back, the judging of what comes, and a process's start."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvloop

from serving_worker.catalogue import Candidate, Candidates, Catalogue, by_item_id, load_catalogue
from serving_worker.control import Control
from serving_worker.isolation.limits import PoolLimits
from serving_worker.isolation.pool import Pool
from serving_worker.isolation.process import Program, host_environment
from serving_worker.rankers.plackett_luce import PlackettLuce
from serving_worker.rankers.plugins import BUILT_IN
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Query, Ranker
from tests.benchmarks.figures import percentile
from tests.benchmarks.ground import Ground
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table

CANDIDATES, SLOTS = 100, 10
REQUESTS, QUICK_REQUESTS = 10_000, 300
BLOCK = 100
STARTS, QUICK_STARTS = 20, 3
TICK_S = 0.001
LONG_S = 60.0
RANKERS: Mapping[str, Ranker] = {"popularity": Popularity(), "plackett_luce": PlackettLuce()}
_HOW = f"""{SLOTS} of {CANDIDATES} items, one request at a time, the worker's event loop, one process a policy, no reserved
processors. *Called*: the ranker's own method. *In the worker*: as the control runs, with its draw seeded and its ranking judged.
*In a process*: with the question written, the process woken, the answer read and judged. Blocks of {BLOCK} requests in turn. A
start is from the order to the process's word that it is ready; the pause is the longest time for which the worker's loop stood
still meanwhile, beside that of an idle loop."""


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    """Microseconds by policy and place; a start's milliseconds."""
    ground.say("isolation")
    requests, starts = (QUICK_REQUESTS, QUICK_STARTS) if asked.quick else (REQUESTS, STARTS)
    with TemporaryDirectory(prefix="tailrace-isolation-") as directory:
        path = Path(directory) / "catalogue.json"
        items = tuple(Candidate(f"item-{number}", number / CANDIDATES) for number in range(CANDIDATES))
        path.write_bytes(msgspec.json.encode(Catalogue({"home": Candidates(items)})))
        return uvloop.run(_measure(path, requests, starts))


def present(measured: Mapping[str, Any]) -> Section:
    ranked, started = measured["rank_us"], measured["start_ms"]
    rows = [
        (f"{policy}, {place}", f"{figures['p50']:.0f}", f"{figures['p99']:.0f}")
        for policy, places in ranked.items()
        for place, figures in places.items()
    ]
    tables = [Table(("µs a ranking", "p50", "p99"), rows)]
    names = {"ready": "until it is ready", "pause": "the loop's longest pause meanwhile", "idle_pause": "an idle loop's"}
    figures = [(name, f"{started[key]['p50']:.1f}", f"{started[key]['max']:.1f}") for key, name in names.items()]
    tables.append(Table(("ms a process's start", "p50", "max"), figures))
    return Section("A policy in a process of its own", _HOW, tables)


async def _measure(path: Path, requests: int, starts: int) -> dict[str, Any]:
    ranked = {policy: await _rank_us(path, policy, ranker, requests) for policy, ranker in RANKERS.items()}
    return {"rank_us": ranked, "start_ms": await _start_ms(path, starts)}


def _pool(path: Path, policy: str) -> Pool:
    limits = PoolLimits(processes=1)
    program = Program(BUILT_IN[policy], path, limits.host, host_environment(os.environ))
    return Pool(policy, program, by_item_id(load_catalogue(path)), limits, lambda: time.monotonic_ns() // 1_000)


async def _rank_us(path: Path, policy: str, ranker: Ranker, requests: int) -> dict[str, dict[str, float]]:
    catalogue, query = load_catalogue(path), Query(surface="home", k=SLOTS)
    control = Control(policy, ranker, catalogue, by_item_id(catalogue))
    candidates, draw = catalogue.surfaces["home"], random.Random(1)
    pool = _pool(path, policy)
    pool.open()
    await asyncio.wait_for(pool.is_up.wait(), LONG_S)
    took: dict[str, list[float]] = {"called": [], "in the worker": [], "in a process": []}
    try:
        for _ in range(requests // BLOCK):
            took["called"] += [_timed_us(lambda: ranker.rank(candidates, query, draw)) for _ in range(BLOCK)]
            took["in the worker"] += [_timed_us(lambda: control.rank(query, "seed")) for _ in range(BLOCK)]
            took["in a process"] += [await _awaited_us(pool, query) for _ in range(BLOCK)]
    finally:
        await pool.close()
    return {place: {"p50": percentile(us, 50), "p99": percentile(us, 99)} for place, us in took.items()}


def _timed_us(rank: Callable[[], object]) -> float:
    began = time.perf_counter()
    rank()
    return (time.perf_counter() - began) * 1e6


async def _awaited_us(pool: Pool, query: Query) -> float:
    began = time.perf_counter()
    await pool.rank(query, "seed", LONG_S)
    return (time.perf_counter() - began) * 1e6


async def _start_ms(path: Path, starts: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {"ready": [], "pause": [], "idle_pause": []}
    for _ in range(starts):
        pool = _pool(path, "popularity")
        ticking = asyncio.create_task(_longest_pause_ms(pool.is_up))
        await asyncio.sleep(0)
        began = time.perf_counter()
        pool.open()
        found["pause"].append(await ticking)
        found["ready"].append((time.perf_counter() - began) * 1e3)
        await pool.close()
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(found["ready"][-1] / 1e3, over.set)
        found["idle_pause"].append(await _longest_pause_ms(over))
    return {name: {"p50": percentile(ms, 50), "max": max(ms)} for name, ms in found.items()}


async def _longest_pause_ms(over: asyncio.Event) -> float:
    """How much later than asked the loop came back, at worst."""
    longest = 0.0
    while not over.is_set():
        began = time.perf_counter()
        await asyncio.sleep(TICK_S)
        longest = max(longest, time.perf_counter() - began - TICK_S)
    return longest * 1e3
