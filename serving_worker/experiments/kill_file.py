"""The kill file: experiments that this host must not serve, whatever any snapshot says, until they are taken out again.

One experiment's id a line; what follows a # is a remark. It stands beside the snapshot and needs nothing but the disk, so it
works while Kafka is away, and after a cold start too. It is written whole, through a rename.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from producers.file_lock import lock_beside
from schemas.events import ExperimentId
from serving_worker.experiments.durable_file import replace_file


def read_killed(path: Path | None) -> frozenset[ExperimentId]:
    """Empty where there is no file. Raises OSError, and ValueError where it is no text."""
    return frozenset(ExperimentId(name) for line in _lines(path) if (name := _name(line)))


def kill(path: Path, experiment_id: ExperimentId, remark: str) -> bool:
    """Whether it was not killed before. Raises OSError, and ValueError where a line cannot name the experiment."""
    if [_name(line) for line in experiment_id.splitlines()] != [experiment_id]:
        raise ValueError(f"no line of it can name {experiment_id!r}; `tailrace experiments stop` can")
    return _change(path, lambda lines: lines if _named(lines, experiment_id) else [*lines, f"{experiment_id}  # {remark}"])


def lift(path: Path, experiment_id: ExperimentId) -> bool:
    """Whether it was killed before. Raises OSError."""
    return _change(path, lambda lines: [line for line in lines if _name(line) != experiment_id])


def _change(path: Path, change: Callable[[list[str]], list[str]]) -> bool:
    with _locked(path):
        before = _lines(path)
        after = change(before)
        if after != before:
            replace_file(path, "".join(f"{line}\n" for line in after).encode())
        return after != before


def _named(lines: list[str], experiment_id: ExperimentId) -> bool:
    return any(_name(line) == experiment_id for line in lines)


def _name(line: str) -> str:
    return line.partition("#")[0].strip()


def _lines(path: Path | None) -> list[str]:
    try:
        return [] if path is None else path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two who kill at once both do."""
    with lock_beside(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
