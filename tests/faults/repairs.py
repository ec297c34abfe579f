"""Dead letters that are mended and replayed beside live sinks, by replays that are killed until one comes through."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from tests.faults.arena import Arena
from tests.faults.ledger import Coordinates, Sound
from tests.faults.plan import Effect, Fault, FaultClass, Moment, draw_faults
from tests.faults.proxy import FaultProxy
from tests.faults.records import Mix
from tests.faults.scenario import Extent, Plan, Scenario
from tests.faults.statements import Step
from tests.faults.strikes import Strikes

SINKS = 1
RECORDS = 3000
RECORDS_PER_S = 200
REPLAY_LIMIT_S = 180

_MOMENTS = (Moment.BEFORE, Moment.MIDWAY, Moment.APPLIED, Moment.ANSWERED)
_CLASSES = [
    FaultClass("replay killed at an insert", Effect.KILL_SINK, tuple((Step.INSERT, moment) for moment in _MOMENTS), 4),
    FaultClass("replay killed at its fence", Effect.KILL_SINK, tuple((Step.FENCE, moment) for moment in _MOMENTS[2:]), 4),
    FaultClass("replay killed in its drain", Effect.KILL_SINK, tuple((Step.DRAIN, moment) for moment in _MOMENTS[2:]), 4),
]


class ReplayFailedError(Exception):
    """The last replay, which nobody killed, did not bring all letters in."""


def _plan(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _CLASSES, extent.points)


def _run(arena: Arena, plan: Plan, _extent: Extent) -> None:
    arena.traffic.send(RECORDS)
    arena.fleet.drain()
    arena.fleet.ensure(SINKS)
    mended = {where: entry.sound for where, entry in arena.ledger.entries.items() if entry.sound is not None}
    with tempfile.TemporaryDirectory() as directory, arena.traffic.trickling(RECORDS_PER_S):
        letters = Path(directory) / "letters.jsonl"
        letters.write_text("".join(_lines(mended)), encoding="utf-8")
        for fault in plan:
            _replay_and_kill(arena, letters, fault)
        _replay_whole(arena, letters)
    arena.ledger.repair(mended)


def _lines(mended: Mapping[Coordinates, Sound]) -> Iterator[str]:
    """As `dlq replay --repaired` takes them."""
    for where, sound in mended.items():
        yield json.dumps({**where._asdict(), "value_base64": base64.b64encode(sound.value).decode()}) + "\n"


def _replay_and_kill(arena: Arena, letters: Path, fault: Fault) -> None:
    """It ends by the fault, or because nothing is left to be replayed that the fault could meet."""
    strikes = Strikes()
    armed = strikes.arm(fault)
    with _own_proxy(arena, strikes) as proxy:
        process = _start(arena, letters, proxy.open("replay"))
        proxy.act = lambda _fault, _name: process.kill()
        try:
            process.communicate(timeout=REPLAY_LIMIT_S)
        finally:
            process.kill()
    (arena.struck if armed.struck.is_set() else arena.missed)[fault.label] += 1


def _replay_whole(arena: Arena, letters: Path) -> None:
    with _own_proxy(arena, Strikes()) as proxy:
        process = _start(arena, letters, proxy.open("replay"))
        try:
            said, complaint = process.communicate(timeout=REPLAY_LIMIT_S)
        finally:
            process.kill()
    if process.returncode != 0:
        raise ReplayFailedError(f"exit code {process.returncode}: {said[-500:]} {complaint[-1000:]}")


@contextmanager
def _own_proxy(arena: Arena, strikes: Strikes) -> Iterator[FaultProxy]:
    """So that faults meet the replay, and no sink."""
    url = urlsplit(arena.variables["TAILRACE_WAREHOUSE_URL"])
    proxy = FaultProxy(url.hostname or "", url.port or 0, strikes)
    try:
        yield proxy
    finally:
        proxy.close()


def _start(arena: Arena, letters: Path, port: int) -> "subprocess.Popen[str]":
    url = urlsplit(arena.variables["TAILRACE_WAREHOUSE_URL"])
    through = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{port}").geturl()
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "dlq", "replay", "--repaired", str(letters), "--json"],
        env={**os.environ, **arena.variables, "TAILRACE_WAREHOUSE_URL": through},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


REPAIR = Scenario(
    name="repair",
    shows="Dead letters mended and replayed beside a live sink, by replays that are killed: rows once, at their own coordinates",
    plan=_plan,
    run=_run,
    points=6,
    mix=Mix(poison=0.02),
    batch_rows=500,
)
