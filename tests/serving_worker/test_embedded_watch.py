"""What keeps the experiments of an embedding process up to date outlives forks and faults."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.experiment_log import ExperimentLog
from producers.main import now_us
from schemas.events import Micros
from schemas.experiment_files import parse_experiments
from serving_worker.config import ExperimentSettings
from serving_worker.embedded_watch import FOLLOWED_US, EmbeddedWatch
from serving_worker.experiments.definitions import ExperimentFile, Reading
from serving_worker.experiments.feed import LATE_S, experiments_of
from serving_worker.experiments.following import Errand
from serving_worker.experiments.snapshot_file import Contents, encode_body, write
from tests.producers.programs import told_by
from tests.schemas.experiment_samples import DEFINITION, DOCUMENT, NOW
from tests.waiting import eventually

AGE_S = 3_600

EMBEDDED = """
import json, os, sys
from pathlib import Path
from serving_worker.embedding import Tailrace
from serving_worker.experiments.kill_file import kill
from tests.waiting import eventually

file = Path(sys.argv[1]) / "experiments.json"
tailrace = Tailrace.from_environment({
    "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1",
    "TAILRACE_EXPERIMENTS_FILE": str(file),
    "TAILRACE_EXPERIMENTS_RELOAD_MS": "10",
    "TAILRACE_EMITTER_CLOSE_AT_EXIT_MS": "0",
})

def reasons():
    return [assignment.reason for assignment in tailrace.turn("unit-1", "home").decision.assignments]
"""

KILLED_AND_STOPPED = """
assert reasons() == ["assigned"]
child = os.fork()
if child == 0:
    kill(file.with_name("experiments.json.kill"), "ab-1", "a test")
    assert eventually(lambda: reasons() == ["killed"], 30)
    file.write_text("[]")
    assert eventually(lambda: reasons() == [], 30)
    tailrace.close(0)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert eventually(lambda: reasons() == [], 30)
tailrace.close(0)
print("seen by both")
"""

FORKED_WHILE_A_FILE_HANGS = """
import json, os, sys, threading
from pathlib import Path
from schemas.experiment_files import parse_experiments
from serving_worker.embedded_watch import EmbeddedWatch
from serving_worker.experiments.definitions import ExperimentFile, Reading
from tests.waiting import eventually

file, hangs = Path(sys.argv[1]) / "experiments.json", threading.Event()

def read(text):
    if text == b"hang":
        hangs.set()
        threading.Event().wait()
    return Reading(parse_experiments(text, "a test"))

def layers():
    return len(watch.snapshot().layers)

watch = EmbeddedWatch(ExperimentFile(file, None, read), 0.01)
file.write_bytes(b"hang")
hangs.wait()
known = layers()
file.write_text("[]")
child = os.fork()
if child == 0:
    os._exit(0 if eventually(lambda: layers() == 0, 30) else 1)
print(known, layers(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""

CLOSED_BEFORE = """
import threading

tailrace.close(0)
child = os.fork()
if child == 0:
    os._exit(threading.active_count())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

OUTLIVING_THE_FOLLOWER = """
import os, sys
from functools import partial
from pathlib import Path
from producers.main import now_us
from serving_worker.config import ExperimentSettings
from serving_worker.embedded_watch import EmbeddedWatch
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import Snapshot
from serving_worker.experiments.feed import experiments_of
from serving_worker.experiments.following import Errand
from tests.serving_worker.stoppable_log import StoppableLog
from tests.waiting import eventually

snapshot, stopped = Path(sys.argv[1]) / "snapshot", Path(sys.argv[1]) / "stopped"

def watch():
    settings, errand = ExperimentSettings(snapshot=snapshot), Errand(snapshot, partial(StoppableLog, stopped), now_us)
    return EmbeddedWatch(experiments_of(settings), 0.01, errand)

def reasons():
    asker = Asker("user", "unit-1", "home", {})
    return [one.reason for each in watches for one in decide(each.snapshot() or Snapshot(), asker, now_us(), "p").assignments]

watches = [watch(), watch()]
assert eventually(lambda: reasons() == ["assigned"] * 2, 30)
if os.fork():
    stopped.touch()
    os._exit(0)
print(eventually(lambda: reasons() == ["not_running"] * 2, 30), flush=True)
os._exit(0)
"""


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    file = tmp_path / "experiments.json"
    file.write_text(json.dumps([DOCUMENT]), encoding="utf-8")
    return file


def test_a_forked_process_sees_what_is_killed_and_what_is_stopped(experiments: Path) -> None:
    assert told_by(EMBEDDED + KILLED_AND_STOPPED, str(experiments.parent)) == "seen by both"


def test_what_was_closed_before_a_fork_stays_closed(experiments: Path) -> None:
    assert told_by(EMBEDDED + CLOSED_BEFORE, str(experiments.parent)) == "1"


def test_a_file_that_hangs_holds_up_no_fork_and_the_child_looks_for_itself(experiments: Path) -> None:
    assert told_by(FORKED_WHILE_A_FILE_HANGS, str(experiments.parent)) == "1 1 0"


def test_a_forked_process_follows_the_topic_when_its_parent_has_ended(tmp_path: Path) -> None:
    assert told_by(OUTLIVING_THE_FOLLOWER, str(tmp_path)) == "True"


def test_a_damaged_file_is_said_and_does_not_end_the_watch(experiments: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(text: bytes) -> Reading:
        text.decode()
        return Reading(parse_experiments(text, "sample"))

    watch = EmbeddedWatch(ExperimentFile(experiments, None, read), 0.01)
    try:
        experiments.write_bytes(b"\xff")
        assert eventually(lambda: "UnicodeDecodeError" in caplog.text, 30)
        snapshot = watch.snapshot()
        assert snapshot is not None
        assert snapshot.layers[0].experiments == ((DEFINITION,),)
        experiments.write_text("[]", encoding="utf-8")
        assert eventually(lambda: (found := watch.snapshot()) is not None and found.layers == (), 30)
    finally:
        watch.close()


def test_a_fault_that_nobody_foresaw_is_counted_and_the_watch_goes_on(experiments: Path) -> None:
    def listener() -> None:
        raise RuntimeError("deaf")

    watch = EmbeddedWatch(ExperimentFile(experiments), 0.01)
    try:
        with watch.telling(listener):
            assert eventually(lambda: watch.faults > 1, 30)
            assert watch.problem == "RuntimeError('deaf')"
        assert eventually(lambda: watch.problem is None, 30)
    finally:
        watch.close()


def test_a_look_that_does_not_end_is_told(experiments: Path) -> None:
    now_s, hangs, going_on = 0.0, threading.Event(), threading.Event()

    def listener() -> None:
        hangs.set()
        going_on.wait()

    def problems() -> list[str]:
        return [watch.problem] if watch.problem else []

    watch = EmbeddedWatch(ExperimentFile(experiments), 0.01, monotonic_s=lambda: now_s)
    try:
        with watch.telling(listener):
            assert hangs.wait(30)
            assert problems() == []
            now_s = LATE_S
            assert problems() == ["no look at them has ended for 10 s"]
            going_on.set()
            assert eventually(lambda: watch.problem is None, 30)
    finally:
        going_on.set()
        watch.close()


class UnreadableError(Exception):
    """An errand with it cannot be read, so whoever follows ends at once."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)

    def __call__(self) -> ExperimentLog:
        raise self


class Host:
    """A watch over a host's snapshot, whose directory is not there to begin with, and the time on its clock."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, NOW
        settings = ExperimentSettings(snapshot=path, age_s_max=AGE_S)
        errand = Errand(path, UnreadableError(), now_us)
        self.watch = EmbeddedWatch(experiments_of(settings), 0.01, errand, now_us=lambda: self.now)

    def publish(self, sequence: int, as_of: int) -> None:
        """What another process of the host has done."""
        self.path.parent.mkdir(exist_ok=True)
        write(self.path, sequence, Micros(as_of), encode_body(Contents((DEFINITION,))))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "nowhere" / "experiments")
    yield made
    made.watch.close()


def says(host: Host, *parts: str) -> bool:
    return eventually(lambda: all(part in (host.watch.problem or "") for part in parts), 30)


def times_said(caplog: pytest.LogCaptureFixture, part: str) -> int:
    return sum(part in record.getMessage() for phase in ("setup", "call") for record in caplog.get_records(phase))


def test_a_process_that_cannot_follow_says_so_once_and_counts_it(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    assert says(host, "this process cannot have the experiments followed: [Errno 2]", "experiments.lock")
    assert eventually(lambda: host.watch.faults > 2, 30)
    assert times_said(caplog, "this process cannot have the experiments followed") == 1


def test_what_keeps_a_process_from_following_is_no_problem_while_another_one_follows(host: Host) -> None:
    assert eventually(lambda: host.watch.faults > 0, 30)
    directory = host.path.parent.with_name("made")
    (directory / "experiments.lock").mkdir(parents=True)
    directory.rename(host.path.parent)
    host.publish(1, NOW)
    assert eventually(lambda: host.watch.problem is None, 30)
    host.now = Micros(NOW + FOLLOWED_US)
    assert says(host, "Is a directory")


def test_a_follower_that_cannot_begin_is_said_once_and_counted(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.path.parent.mkdir()
    assert says(host, "the follower of the experiments has ended with 1")
    assert eventually(lambda: host.watch.faults > 2, 60)
    assert times_said(caplog, "has ended with 1") == 1


def test_definitions_that_are_too_old_are_a_problem(host: Host) -> None:
    host.publish(1, NOW)
    assert eventually(lambda: host.watch.snapshot() is not None, 30)
    host.now = Micros(NOW + AGE_S * 1_000_000)
    assert says(host, "too old to be served")


def test_files_that_cannot_be_looked_at_keep_nobody_from_starting(experiments: Path) -> None:
    def read(text: bytes) -> Reading:
        raise RuntimeError(len(text))

    watch = EmbeddedWatch(ExperimentFile(experiments, None, read), 0.01)
    watch.close()
    assert watch.snapshot() is None
