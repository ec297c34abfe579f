"""What the local stack remembers: `stack.json` for as long as its data live, `run.json` while it runs.

`tailrace up` writes the first, the supervisor the second; both files are for their owner's eyes only, as they hold or lead to
passwords. A process is known by its id and its start time, so that a recycled id is never taken for ours.
"""

import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from schemas.errors import PartUnreachable

DATABASE = "tailrace"
REGISTRY_API = "/apis/ccompat/v7"
WRITER = "tailrace"
READER = "reader"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a local stack listen, as clients want to hear it; None where a part is not of the stack."""

    kafka_bootstrap: str | None
    registry_url: str | None
    warehouse_url: str | None
    warehouse_read_url: str | None


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What stays the same from start to start."""

    kafka_port: int
    kafka_controller_port: int
    registry_port: int
    warehouse_port: int
    kafka_cluster_id: str
    writer_password: str
    reader_password: str

    def addresses(self, parts: Collection[str]) -> Addresses:
        """The addresses of those parts of the stack that `parts` names."""
        warehouse = f"127.0.0.1:{self.warehouse_port}/{DATABASE}"
        return Addresses(
            kafka_bootstrap=f"127.0.0.1:{self.kafka_port}" if "kafka" in parts else None,
            registry_url=f"http://127.0.0.1:{self.registry_port}{REGISTRY_API}" if "registry" in parts else None,
            warehouse_url=f"http://{WRITER}:{self.writer_password}@{warehouse}" if "warehouse" in parts else None,
            warehouse_read_url=f"http://{READER}:{self.reader_password}@{warehouse}" if "warehouse" in parts else None,
        )


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process for ever: ids are recycled, ids with start times are not. `started_at` is in seconds since 1970."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The identity of the process `pid`, None where it is gone."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def process(self) -> psutil.Process | None:
        """The running process, None where it has ended (a zombie has)."""
        try:
            process = psutil.Process(self.pid)
            ended = process.create_time() != self.started_at or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return None if ended else process


@dataclass(frozen=True, slots=True)
class PartRun:
    """One part under the supervisor. `gave_up`: it died too often in a row and is left alone until the next `up`."""

    name: str
    process: ProcessIdentity | None
    restarts: int
    gave_up: bool


@dataclass(frozen=True, slots=True)
class StackRun:
    """The processes of a stack that runs, or that was left behind."""

    supervisor: ProcessIdentity
    parts: tuple[PartRun, ...]


def read_plan(home: Path) -> StackPlan | None:
    """None where no stack was ever started in `home`."""
    found = _read(home / "stack.json")
    return None if found is None else StackPlan(**found)


def write_plan(home: Path, plan: StackPlan) -> None:
    _write(home / "stack.json", asdict(plan))


def read_run(home: Path) -> StackRun | None:
    """None where nothing was left running in `home`."""
    found = _read(home / "run.json")
    if found is None:
        return None
    parts = tuple(_part_run(part) for part in found["parts"])
    return StackRun(ProcessIdentity(**found["supervisor"]), parts)


def write_run(home: Path, run: StackRun) -> None:
    _write(home / "run.json", asdict(run))


def forget_run(home: Path) -> None:
    (home / "run.json").unlink(missing_ok=True)


def running_addresses(home: Path) -> Addresses | None:
    """The addresses of the stack that runs in `home`, None where its supervisor does not."""
    run = read_run(home)
    if run is None or run.supervisor.process() is None:
        return None
    plan = read_plan(home)
    return None if plan is None else plan.addresses([part.name for part in run.parts])


def _part_run(found: dict[str, Any]) -> PartRun:
    identity = found.pop("process")
    return PartRun(process=None if identity is None else ProcessIdentity(**identity), **found)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        remedy = f"it cannot be read ({error}); mend its permissions, or remove the file once no process of the stack runs"
        raise PartUnreachable("the local stack's state", str(path), remedy) from error
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    partial.replace(path)
