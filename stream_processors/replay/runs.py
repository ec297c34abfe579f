"""The runs that the warehouse knows: each one's manifest, and the log of what has happened to it.

The log is append only, and how a run stands is a pure function of it (`state_of`), so whoever finds a run that was interrupted
knows what was begun and what was done. Steps of a run are numbered; two processes that append at once may give the same number,
and then the time decides.
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stream_processors.replay.manifest import Manifest
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter

_MANIFEST = "INSERT INTO replay_manifests (run, target, manifest) FORMAT JSONEachRow"
_STEP = "INSERT INTO replay_steps (run, seq, step, detail, host_pid) FORMAT JSONEachRow"
_MANIFESTS = """
SELECT manifest, toUnixTimestamp64Milli(planned_at) AS planned_ms FROM replay_manifests FINAL
WHERE {run:String} = '' OR run = {run:String}
ORDER BY planned_at, run
FORMAT JSONEachRow
"""
_STEPS = """
SELECT run, seq, step, detail, toUnixTimestamp64Milli(at) AS at_ms, host_pid FROM replay_steps
WHERE {run:String} = '' OR run = {run:String}
ORDER BY run, seq, at
FORMAT JSONEachRow
"""
_COMMENT = "tailrace replay"


class State(StrEnum):
    """How a run stands. Each is also the name of the step that leads to it; a swap's own steps stand between."""

    PLANNED = "planned"
    RUNNING = "running"
    FILLED = "filled"
    VERIFIED = "verified"
    DIFFERS = "differs"
    PREPARING = "preparing"
    HELD = "held"
    FENCED = "fenced"
    COPIED = "copied"
    EXCHANGED = "exchanged"
    RELEASED = "released"
    SWAPPED = "swapped"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that has happened to a run. `host_pid` is who did it, as host:pid."""

    seq: int
    step: str
    detail: Mapping[str, Any]
    at_ms: int
    host_pid: str


@dataclass(frozen=True, slots=True)
class Run:
    manifest: Manifest
    planned_ms: int
    steps: tuple[Step, ...]

    @property
    def state(self) -> State:
        return state_of(self.steps)

    def last(self, step: str) -> Step | None:
        """The last step of that name."""
        return next((each for each in reversed(self.steps) if each.step == step), None)


def state_of(steps: Sequence[Step]) -> State:
    """How a run stands after these steps: as the last of them says. A run without any is planned."""
    return State(steps[-1].step) if steps else State.PLANNED


def this_process() -> str:
    """Who we are in the log, as host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


class RunStore:
    """Reads and writes manifests and steps. Raises Retryable where the warehouse does not answer."""

    def __init__(self, writer: ClickHouseWriter) -> None:
        self._writer = writer

    def save(self, manifest: Manifest) -> None:
        row = {"run": manifest.run, "target": manifest.table, "manifest": manifest.as_json()}
        self._writer.command(_MANIFEST, _COMMENT, json.dumps(row).encode())

    def append(self, run: str, step: State | str, detail: Mapping[str, Any] | None = None) -> None:
        """Write down that `step` has happened; the warehouse gives the time."""
        state = State(step)
        seq = max((each.seq for each in self._steps(run).get(run, ())), default=0) + 1
        row = {"run": run, "seq": seq, "step": state, "detail": json.dumps(detail or {}), "host_pid": this_process()}
        self._writer.command(_STEP, _COMMENT, json.dumps(row).encode())

    def get(self, run: str) -> Run | None:
        """None where no run has that name."""
        return next(iter(self._runs(run)), None) if run else None

    def all(self) -> list[Run]:
        """The oldest first."""
        return self._runs("")

    def _runs(self, run: str) -> list[Run]:
        rows = _rows(self._writer.query(_MANIFESTS, {"run": run}))
        steps = self._steps(run)
        found = [(Manifest.from_json(row["manifest"]), int(row["planned_ms"])) for row in rows]
        return [Run(manifest, planned_ms, tuple(steps.get(manifest.run, ()))) for manifest, planned_ms in found]

    def _steps(self, run: str) -> dict[str, list[Step]]:
        found: dict[str, list[Step]] = {}
        for row in _rows(self._writer.query(_STEPS, {"run": run})):
            step = Step(int(row["seq"]), row["step"], json.loads(row["detail"]), int(row["at_ms"]), row["host_pid"])
            found.setdefault(row["run"], []).append(step)
        return found


def _rows(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines()]
