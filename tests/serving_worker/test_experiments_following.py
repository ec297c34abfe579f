"""Who follows: one process of a host, which gives way to those that answer, and goes when they go."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from schemas.events import ExperimentId, Micros
from serving_worker.experiments.feed import following
from serving_worker.experiments.following import RECENT_S, Errand, Hitches, keep_followed
from serving_worker.experiments.snapshot_file import Contents, decode_body, encode_body, split, write
from tests.producers.programs import told_by
from tests.schemas.experiment_samples import DEFINITION, NOW
from tests.serving_worker.test_experiments_follower import ScriptedLog
from tests.waiting import eventually

LIMIT_S = 60


def now() -> Micros:
    """A clock that stands still: an idle follower has nothing to say."""
    return NOW


def uncounted() -> Hitches:
    return Hitches(time.monotonic, lambda: None)


def log_of_this_process(name: str) -> ScriptedLog:
    """Its definition tells who reads it."""
    return ScriptedLog(replace(DEFINITION, experiment_id=ExperimentId(name), owner=str(os.getpid())))


def owners(path: Path) -> dict[str, str]:
    """By experiment."""
    if not path.exists():
        return {}
    return {each.experiment_id: each.owner for each in decode_body(split(path.read_bytes())[1]).revisions}


@contextmanager
def followed(path: Path) -> Iterator[psutil.Process]:
    """By this process; gives the one that follows."""
    with following(Errand(path, partial(log_of_this_process, "first"), now), uncounted(), threading.Event()):
        assert eventually(lambda: "first" in owners(path), LIMIT_S)
        yield psutil.Process(int(owners(path)["first"]))


def gone(process: psutil.Process) -> bool:
    """Whether it has ended, be it that nobody has asked how."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


A_LOCK_THAT_HANGS = """
import os, sys, threading
from pathlib import Path
from producers.main import now_us
from serving_worker.experiments.following import Errand, Hitches, keep_followed

opening = threading.Event()

def open_or_hang(path, *arguments, real=os.open):
    if Path(path).suffix == ".lock":
        opening.set()
        threading.Event().wait()
    return real(path, *arguments)

os.open = open_or_hang
errand = Errand(Path(sys.argv[1]) / "experiments", None, now_us)
hitches = Hitches(lambda: 0.0, lambda: None)
threading.Thread(target=keep_followed, args=[errand, hitches, threading.Event()], daemon=True).start()
opening.wait()
child = os.fork()
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""


def test_a_lock_that_hangs_holds_up_no_fork(tmp_path: Path) -> None:
    assert told_by(A_LOCK_THAT_HANGS, str(tmp_path)) == "0"


def test_what_keeps_a_process_from_following_is_said_again_when_it_was_well_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now_s, counted = 0.0, []
    hitches = Hitches(lambda: now_s, lambda: counted.append(now_s))
    hitches.note(OSError("no room"))
    hitches.note(OSError("no room"))
    assert (len(caplog.records), len(counted)) == (1, 2)
    assert "no room" in str(hitches.trouble())
    now_s += RECENT_S
    assert hitches.trouble() is None
    hitches.note(OSError("no room"))
    assert len(caplog.records) == 2


def test_what_follows_is_a_process_that_gives_way_and_ends_with_its_worker(tmp_path: Path) -> None:
    with followed(tmp_path / "experiments") as follower:
        assert follower.pid != os.getpid()
        assert follower.nice() > psutil.Process().nice()
    assert gone(follower)


def test_a_follower_that_is_gone_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "experiments"
    with caplog.at_level(logging.ERROR), followed(path) as follower:
        path.unlink()
        follower.kill()
        assert eventually(lambda: owners(path).get("first", str(follower.pid)) != str(follower.pid), LIMIT_S)
    assert "the follower of the experiments has ended with -9" in caplog.text


def _keep_followed(path: str, name: str) -> None:
    keep_followed(Errand(Path(path), partial(log_of_this_process, name), now), uncounted(), threading.Event())


def test_one_process_of_a_host_writes_and_another_takes_over_when_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "experiments"
    spawn = multiprocessing.get_context("spawn")
    first, second = (spawn.Process(target=_keep_followed, args=(str(path), name)) for name in ("first", "second"))
    first.start()
    assert eventually(lambda: "first" in owners(path), LIMIT_S)
    second.start()
    path.unlink()
    assert not eventually(path.exists, 1.5), "the first has nothing to say, and the second waits for the lock"
    write(path, 1, NOW, encode_body(Contents()))
    first.kill()
    first.join(LIMIT_S)
    assert eventually(lambda: "second" in owners(path), LIMIT_S)
    follower = psutil.Process(int(owners(path)["second"]))
    second.kill()
    second.join(LIMIT_S)
    assert eventually(lambda: gone(follower), LIMIT_S)


def test_a_follower_ends_with_its_worker_also_where_a_child_of_that_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), followed(tmp_path / "experiments"):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        assert not caplog.records, "it ended by itself"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
