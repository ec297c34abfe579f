"""The host's snapshot: who follows writes it, what is in it never falls back, and what is wrong is refused by name."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.experiments.held import held_of, stopped
from producers.experiment_log import LogUnavailable, Refused
from schemas.events import BucketRange, ExperimentDefinition, ExperimentId, ExperimentStatus, Micros, UnitId
from schemas.experiment_history import broken_rules
from schemas.experiment_plans import Author
from serving_worker.experiments.assignment import Asker, Reason
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import ExperimentFile, Snapshot
from serving_worker.experiments.follower import HEARTBEAT_US, Follower, follow
from serving_worker.experiments.intake import REFUSED_MAX, Intake
from serving_worker.experiments.kill_file import kill, lift, read_killed
from serving_worker.experiments.snapshot_file import Contents, SnapshotFileError, decode_body, encode_body, split
from serving_worker.experiments.snapshot_reader import SnapshotReader
from tests.schemas.experiment_samples import DEFINITION, NOW
from tests.schemas.record_strategies import records
from tests.waiting import eventually

AGE_S = 3_600
ASKER = Asker("user", UnitId("unit-1"), "home", {})
STOPPED = replace(DEFINITION, revision=2, status=ExperimentStatus.ENDED, changed_at=Micros(NOW + 1), effective_at=Micros(NOW + 1))


class ScriptedLog:
    """Hands out what it is given; may be away, or have more than it has handed out."""

    def __init__(self, *found: ExperimentDefinition | Refused) -> None:
        self.waiting = list(found)
        self.up, self.behind = True, False

    def poll(self, timeout_s: float) -> tuple[ExperimentDefinition | Refused, ...]:
        assert timeout_s > 0
        self._refuse()
        found, self.waiting = tuple(self.waiting), []
        return found

    def caught_up(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        self._refuse()
        return not self.behind

    def close(self) -> None:
        """It holds nothing."""

    def _refuse(self) -> None:
        if not self.up:
            raise LogUnavailable("away")


class Host:
    """A snapshot's follower and one reader, with a clock of their own."""

    def __init__(self, directory: Path) -> None:
        self.path, self.kill_file = directory / "experiments.snapshot", directory / "experiments.snapshot.kill"
        self.log, self.now = ScriptedLog(), NOW
        self.reader = ExperimentFile(self.path, self.kill_file, SnapshotReader(AGE_S))
        self.follower = Follower(self.log, self.path, lambda: self.now)

    def reads(self, *found: ExperimentDefinition | Refused) -> bool:
        self.log.waiting.extend(found)
        return self.follower.round()

    def reason(self) -> str:
        self.reader.reload()
        snapshot = self.reader.snapshot()
        assert snapshot is not None
        return decide(snapshot, ASKER, self.now, "popularity").assignments[0].reason

    def contents(self) -> Contents:
        return decode_body(split(self.path.read_bytes())[1])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_the_topic_holds_is_what_workers_serve(host: Host) -> None:
    assert host.reads(DEFINITION)
    assert host.reason() == Reason.ASSIGNED
    assert host.reads(STOPPED)
    assert host.reason() == Reason.NOT_RUNNING
    assert host.contents().revisions == (DEFINITION, STOPPED)


def test_a_worker_starts_from_the_snapshot_alone(host: Host, tmp_path: Path) -> None:
    host.reads(DEFINITION)
    again = Host(tmp_path)
    again.log.up = False
    assert again.reason() == Reason.ASSIGNED
    with pytest.raises(LogUnavailable):
        again.reads()
    assert again.reason() == Reason.ASSIGNED


def test_a_snapshot_that_is_too_old_decides_nothing_until_it_is_renewed(host: Host) -> None:
    host.reads(DEFINITION)
    host.now = Micros(NOW + AGE_S * 1_000_000 - 1)
    assert host.reason() == Reason.ASSIGNED
    host.now = Micros(host.now + 1)
    assert host.reason() == Reason.STALE_CONFIG
    assert host.reads()
    assert host.reason() == Reason.ASSIGNED


def test_an_idle_follower_says_that_it_is_up_to_date_only_if_the_brokers_say_so(host: Host) -> None:
    host.reads(DEFINITION)
    assert not host.reads(), "nothing is new, and it was asked a moment ago"
    host.now = Micros(NOW + HEARTBEAT_US)
    host.log.behind = True
    assert not host.reads()
    host.log.behind, host.log.up = False, False
    with pytest.raises(LogUnavailable):
        host.reads()
    assert split(host.path.read_bytes())[0].as_of == NOW
    host.log.up = True
    assert host.reads()
    assert split(host.path.read_bytes())[0].as_of == NOW + HEARTBEAT_US


def test_nothing_is_written_before_the_topics_end_is_reached(host: Host) -> None:
    host.log.behind = True
    assert not host.reads(DEFINITION)
    assert not host.path.exists()


def test_a_topic_that_has_lost_its_revisions_takes_none_from_the_snapshot(host: Host, tmp_path: Path) -> None:
    host.reads(DEFINITION, STOPPED)
    empty = Host(tmp_path)
    assert empty.reads()
    assert empty.reason() == Reason.NOT_RUNNING
    assert not empty.reads(DEFINITION), "an older one that comes again is no news"
    assert empty.reason() == Reason.NOT_RUNNING


def test_a_bad_definition_is_refused_by_name_and_the_good_ones_go_on(host: Host) -> None:
    host.reads(DEFINITION)
    moved = replace(DEFINITION, revision=2, arm_salt="another")
    other = replace(DEFINITION, experiment_id=ExperimentId("ab-2"), arm_salt="arm-2", status=ExperimentStatus.DRAFT)
    garbage = Refused("topic[0] at 7", "ab-9:1", "no such schema")
    host.reads(moved, garbage, other)
    assert host.reason() == Reason.ASSIGNED
    assert [each.experiment_id for each in host.contents().revisions] == ["ab-1", "ab-2"]
    assert "refused ab-1:2: arm_salt cannot change" in str(host.reader.problem)
    assert "refused ab-9:1: no such schema" in str(host.reader.problem)
    healing = stopped(DEFINITION.experiment_id, held_of([DEFINITION, moved, garbage, other]), Author("alice", NOW))
    host.reads(*healing.revisions(), replace(other, experiment_id=ExperimentId("ab-9"), revision=2, arm_salt="arm-9"))
    assert host.reason() == Reason.NOT_RUNNING
    assert host.reader.problem is None, "later revisions have healed both"


def test_a_revision_stays_as_it_was_first_taken(host: Host) -> None:
    host.reads(DEFINITION)
    host.reads(replace(DEFINITION, bucket_ranges=(BucketRange(0, 1),)))
    assert host.contents().revisions == (DEFINITION,)
    assert "differs from the same revision" in str(host.contents().refused)


def test_what_the_topic_says_twice_is_taken_once() -> None:
    intake = Intake(Contents())
    intake.take([DEFINITION, DEFINITION, STOPPED, STOPPED])
    intake.take([STOPPED])
    assert intake.contents() == Contents((DEFINITION, STOPPED))


@pytest.mark.parametrize("revision", [pytest.param("9" * 5_000, id="endless"), "", "one", "²"])
def test_a_key_that_is_none_is_refused_and_stops_nobody(revision: str) -> None:
    intake, garbage = Intake(Contents()), Refused("topic[0] at 7", f"ab-1:{revision}", "no such schema")
    intake.take([DEFINITION, garbage])
    assert intake.contents() == Contents((DEFINITION,), (garbage,))


def test_faults_by_newer_rules_do_not_undo_what_was_taken_in() -> None:
    broken = replace(DEFINITION, owner="")
    intake = Intake(Contents((broken,)))
    intake.take([replace(STOPPED, owner="")])
    assert [each.revision for each in intake.contents().revisions] == [1]
    intake.take([STOPPED])
    assert [each.revision for each in intake.contents().revisions] == [1, 2]


def test_a_spoilt_snapshot_is_refused_and_replaced_and_the_last_good_one_stays(host: Host, tmp_path: Path) -> None:
    host.reads(DEFINITION)
    assert host.reason() == Reason.ASSIGNED
    host.path.write_bytes(host.path.read_bytes()[:-1])
    assert host.reason() == Reason.ASSIGNED
    assert str(host.path) in str(host.reader.problem)
    host.now = Micros(NOW + HEARTBEAT_US)
    assert host.reads(), "the follower writes all of it whenever it says that it is up to date"
    assert host.reason() == Reason.ASSIGNED
    assert host.reader.problem is None
    host.path.write_bytes(host.path.read_bytes()[:-1])
    another = Host(tmp_path)
    another.now = Micros(host.now + 1)
    assert another.reads(DEFINITION), "another one begins anew"
    assert host.reason() == Reason.ASSIGNED
    assert host.reader.problem is None


def damaged(text: bytes) -> Iterator[bytes]:
    """Cut off before every byte, and with one bit of it turned over."""
    for place in range(len(text)):
        yield text[:place]
        for bit in (0x01, 0x20, 0x80):
            yield text[:place] + bytes([text[place] ^ bit]) + text[place + 1 :]


def test_no_byte_of_the_snapshot_can_be_damaged_unnoticed(host: Host) -> None:
    host.reads(DEFINITION)
    host.now = Micros(NOW + HEARTBEAT_US)
    host.reads()
    written = host.path.read_bytes()
    for text in damaged(written):
        assert host.reader.reload(), "the good one is taken again"
        assert host.reader.problem is None
        kept = snapshot_of(host)
        host.path.write_bytes(text)
        assert host.reader.reload(), text
        assert str(host.path) in str(host.reader.problem)
        assert snapshot_of(host) is kept
        fresh = ExperimentFile(host.path, None, SnapshotReader(AGE_S))
        assert fresh.reload()
        assert fresh.snapshot() is None
        Follower(ScriptedLog(), host.path, lambda: NOW)
        host.path.write_bytes(written)


def test_a_kill_counts_while_a_copy_runs_into_a_fault_that_nobody_foresaw(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.reads(DEFINITION)
    host.reason()
    monkeypatch.setattr(SnapshotReader, "__call__", lambda *_: 1 // 0)
    host.now = Micros(NOW + HEARTBEAT_US)
    host.reads()
    kill(host.kill_file, DEFINITION.experiment_id, "burns")
    assert host.reason() == Reason.KILLED
    assert "ZeroDivisionError" in str(host.reader.problem)
    assert not host.reader.reload(), "it is told once"
    monkeypatch.undo()
    assert host.reader.reload(), "and tried again"
    assert host.reader.problem is None


def test_an_older_snapshot_never_replaces_a_newer_one(host: Host) -> None:
    host.reads(DEFINITION)
    older = host.path.read_bytes()
    host.now = Micros(NOW + 5)
    host.reads(STOPPED)
    assert host.reason() == Reason.NOT_RUNNING
    host.path.write_bytes(older)
    assert host.reason() == Reason.NOT_RUNNING
    assert "older than the one that is served" in str(host.reader.problem)


def test_a_clock_that_is_set_back_holds_nothing_up(host: Host) -> None:
    host.now = Micros(NOW + AGE_S * 1_000_000)
    host.reads(DEFINITION)
    assert host.reason() == Reason.ASSIGNED
    host.now = Micros(NOW + 1)
    assert host.reason() == Reason.STALE_CONFIG, "it is dated in the future"
    assert host.reads(STOPPED)
    assert host.reason() == Reason.NOT_RUNNING


def test_a_heartbeat_does_not_make_the_layers_anew(host: Host) -> None:
    host.reads(DEFINITION)
    host.reader.reload()
    before = snapshot_of(host)
    host.now = Micros(NOW + HEARTBEAT_US)
    host.reads()
    assert not host.reader.reload()
    after = snapshot_of(host)
    assert after.layers is before.layers
    assert after.validity != before.validity


def snapshot_of(host: Host) -> Snapshot:
    snapshot = host.reader.snapshot()
    assert snapshot is not None
    return snapshot


def test_what_is_killed_here_stays_killed_whatever_comes_and_after_a_cold_start(host: Host, tmp_path: Path) -> None:
    host.reads(DEFINITION)
    assert kill(host.kill_file, DEFINITION.experiment_id, "burns")
    assert not kill(host.kill_file, DEFINITION.experiment_id, "again")
    assert host.reason() == Reason.KILLED
    host.now = Micros(NOW + 1)
    host.reads(replace(DEFINITION, revision=2, owner="else"))
    assert host.reason() == Reason.KILLED
    cold = Host(tmp_path)
    assert cold.reason() == Reason.KILLED
    assert lift(host.kill_file, DEFINITION.experiment_id)
    assert host.reason() == Reason.ASSIGNED
    assert not lift(host.kill_file, DEFINITION.experiment_id)


def test_a_kill_counts_while_the_snapshot_is_spoilt(host: Host) -> None:
    host.reads(DEFINITION)
    host.reason()
    host.path.write_bytes(b"")
    kill(host.kill_file, DEFINITION.experiment_id, "burns")
    assert host.reason() == Reason.KILLED


def test_without_knowing_what_is_killed_nothing_is_served(host: Host) -> None:
    host.reads(DEFINITION)
    host.kill_file.write_bytes(b"\xff\xfe")
    host.reader.reload()
    assert host.reader.snapshot() is None
    assert str(host.kill_file) in str(host.reader.problem)
    host.kill_file.write_text("# nothing\n\n", encoding="utf-8")
    assert host.reason() == Reason.ASSIGNED
    host.kill_file.write_bytes(b"\xff\xfe")
    assert host.reason() == Reason.ASSIGNED, "the last good copy of the kill file counts"


def test_two_who_kill_at_once_both_do(tmp_path: Path) -> None:
    path = tmp_path / "kill"
    names = [ExperimentId(f"ab-{number}") for number in range(20)]
    threads = [threading.Thread(target=kill, args=(path, name, "")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert read_killed(path) == frozenset(names)


def test_of_refused_records_the_newest_are_told_by_name_and_the_others_by_number(host: Host) -> None:
    garbage = [Refused(f"topic[0] at {place}", "", "no such schema") for place in range(REFUSED_MAX + 20)]
    host.reads(DEFINITION, *garbage)
    assert host.contents().refused == tuple(garbage[20:])
    assert host.reason() == Reason.ASSIGNED
    assert str(host.reader.problem).endswith("refused 20 more before them")


def test_one_bad_revision_among_many_costs_few_looks_at_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is at the whole history."""
    looks: list[int] = []

    def counted(definitions: Sequence[ExperimentDefinition]) -> list[str]:
        looks.append(len(definitions))
        return broken_rules(definitions)

    monkeypatch.setattr("serving_worker.experiments.intake.broken_rules", counted)
    intake = Intake(Contents())
    sound = [replace(DEFINITION, revision=revision) for revision in range(1, 257)]
    intake.take([*sound[:100], replace(DEFINITION, revision=1_000, owner=""), *sound[100:]])
    assert intake.contents().revisions == tuple(sound)
    assert [each.key for each in intake.contents().refused] == ["ab-1:1000"]
    assert len(looks) < 30


@given(st.lists(records(ExperimentDefinition), max_size=3), st.lists(records(Refused), max_size=3), st.integers(0, 2**31))
def test_the_snapshot_holds_whatever_a_revision_can_say(
    revisions: list[ExperimentDefinition], refused: list[Refused], left_out: int
) -> None:
    contents = Contents(tuple(revisions), tuple(refused), left_out)
    assert decode_body(encode_body(contents)) == contents


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"revisions":[{}]}', b'{"revisions":[],"refused":[1]}'])
def test_a_body_of_another_kind_is_refused(body: bytes) -> None:
    with pytest.raises(SnapshotFileError):
        decode_body(body)


def test_a_log_that_cannot_be_opened_or_read_is_tried_again(host: Host) -> None:
    stop, opened = threading.Event(), 0

    def open_log() -> ScriptedLog:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise ValueError("nobody foresaw this")
        return host.log

    thread = threading.Thread(target=follow, args=(host.path, open_log, lambda: NOW, stop))
    host.log.up = False
    thread.start()
    assert eventually(lambda: opened == 2, 30)
    host.log.waiting, host.log.up = [DEFINITION], True
    assert eventually(host.path.exists, 30)
    stop.set()
    thread.join(30)
    assert host.reason() == Reason.ASSIGNED
