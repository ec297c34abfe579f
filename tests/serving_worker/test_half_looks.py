"""A look at the experiments that a fork has cut off anywhere is done again by the next."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from schemas.events import ExperimentId
from serving_worker.experiments import definitions
from serving_worker.experiments.definitions import ExperimentFile
from serving_worker.experiments.snapshot_file import Contents, encode_body, write
from serving_worker.experiments.snapshot_reader import SnapshotReader
from tests.schemas.experiment_samples import DEFINITION, DOCUMENT, NOW

PLACES = Path(definitions.__file__).parent
Making = Callable[[Path], ExperimentFile]
Change = Callable[[Path], object]


class CutOffError(BaseException):
    """Nothing that a look would catch."""


def cut_off(look: Callable[[], object], after_lines: int) -> bool:
    """Whether `look` was left in its middle, as a fork would leave it; False where it has no more lines."""
    left = after_lines

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        if Path(frame.f_code.co_filename).parent != PLACES:
            return None
        left -= event == "line"
        if left < 0:
            raise CutOffError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        look()
    except CutOffError:
        return True
    finally:
        sys.settrace(before)
    return False


def kept(path: Path) -> ExperimentFile:
    return ExperimentFile(path, path.with_name("kill"))


def followed(path: Path) -> ExperimentFile:
    return ExperimentFile(path, path.with_name("kill"), SnapshotReader(3_600))


def keep(path: Path, name: str) -> None:
    path.write_text(json.dumps([{**DOCUMENT, "experiment_id": name}]), encoding="utf-8")


def follow(path: Path, name: str, sequence: int) -> None:
    write(path, sequence, NOW, encode_body(Contents((replace(DEFINITION, experiment_id=ExperimentId(name)),))))


def kill(path: Path) -> None:
    path.with_name("kill").write_text("ab-1\nab-2\n", encoding="utf-8")


def again(path: Path) -> None:
    follow(path, "ab-1", 2)


def other(path: Path) -> None:
    follow(path, "ab-2", 2)


@pytest.mark.parametrize("changes", [(kill,), (again,), (other,), (kill, again), (kill, other)])
def test_of_the_snapshot_and_the_kill_file(tmp_path: Path, changes: tuple[Change, ...]) -> None:
    _wherever_it_is_cut_off(tmp_path / "experiments", followed, lambda path: follow(path, "ab-1", 1), changes)


@pytest.mark.parametrize("changes", [(lambda path: keep(path, "ab-2"),), (kill, lambda path: keep(path, "ab-2"))])
def test_of_a_file_that_is_kept(tmp_path: Path, changes: tuple[Change, ...]) -> None:
    _wherever_it_is_cut_off(tmp_path / "experiments", kept, lambda path: keep(path, "ab-1"), changes)


def _wherever_it_is_cut_off(path: Path, made: Making, begin: Change, changes: tuple[Change, ...]) -> None:
    lines = 0
    while True:
        path.with_name("kill").unlink(missing_ok=True)
        begin(path)
        experiments = made(path)
        experiments.reload()
        for change in changes:
            change(path)
        was_cut_off = cut_off(experiments.reload, lines)
        experiments.reload()
        expected = made(path)
        expected.reload()
        assert expected.problem is None
        assert experiments.snapshot() == expected.snapshot(), f"cut off after {lines} lines"
        assert experiments.killed == expected.killed
        if not was_cut_off:
            break
        lines += 1
    assert lines > 10, "a look has lines"
