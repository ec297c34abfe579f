"""What is written to the topic past the desk, and what the topic has lost: the desk says so, and what it does counts."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.experiments.held import Held, held_of, refuse_lost, remarks, stopped
from deploy.experiments.shrinking import planned
from producers.config import ProducerSettings
from producers.experiment_log import Refused
from producers.main import experiment_log_for, now_us, publisher_for
from schemas.events import BucketRange, ExperimentDefinition, ExperimentId, ExperimentStatus, Micros
from schemas.experiment_history import QUARANTINE_S
from schemas.experiment_plans import Author, PlanRefused
from schemas.experiment_rules import REVISION_MAX
from serving_worker.experiments.assignment import Reason
from serving_worker.experiments.follower import Follower
from serving_worker.experiments.snapshot_file import Contents, decode_body, encode_body, split, write
from tests.schemas.experiment_samples import DEFINITION, DOCUMENT, NOW
from tests.serving_worker.test_experiments_follower import STOPPED, Host
from tests.waiting import eventually

ID = DEFINITION.experiment_id
ALICE = Author("alice", Micros(NOW + 10))
AS_WRITTEN = replace(DEFINITION, revision=0, changed_by="", changed_at=Micros(0), effective_at=Micros(0))
"""The owner's file."""
FILLED_IN = {"revision", "changed_by", "changed_at", "effective_at"}
WISH = {name: value for name, value in DOCUMENT.items() if name not in FILLED_IN}
SALTED = replace(DEFINITION, revision=2, arm_salt="another")
PAST_THE_DESK = (
    SALTED,
    replace(SALTED, status=ExperimentStatus.ENDED),
    replace(DEFINITION, revision=2, layer_salt="another"),
    replace(DEFINITION, revision=2, arms=DEFINITION.arms[::-1]),
    replace(DEFINITION, revision=7, owner=""),
)


def contents_of(path: Path) -> Contents:
    return decode_body(split(path.read_bytes())[1])


@pytest.mark.parametrize("bad", PAST_THE_DESK)
def test_a_stop_counts_whatever_was_written_past_the_desk(bad: ExperimentDefinition, tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.reads(DEFINITION)
    host.reads(bad)
    assert host.reason() == Reason.ASSIGNED
    held = held_of([DEFINITION, bad])
    assert [remark.startswith(f"workers refuse ab-1:{bad.revision}: ") for remark in remarks(held)] == [True]
    (end,) = stopped(ID, held, ALICE).revisions()
    assert (end.revision, end.arm_salt) == (bad.revision + 1, DEFINITION.arm_salt)
    host.now = ALICE.now
    host.reads(end)
    assert host.reason() == Reason.NOT_RUNNING
    assert host.contents() == Contents((DEFINITION, end))
    assert held_of([DEFINITION, bad, end]).revisions == host.contents().revisions
    with pytest.raises(PlanRefused, match="ab-1: has ended"):
        stopped(ID, held_of([DEFINITION, bad, end]), ALICE)


@pytest.mark.parametrize("bad", PAST_THE_DESK)
def test_the_owners_file_applied_again_heals(bad: ExperimentDefinition, tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.reads(DEFINITION, bad)
    assert host.reason() == Reason.ASSIGNED
    assert f"refused ab-1:{bad.revision}" in str(host.reader.problem)
    (again,) = planned([AS_WRITTEN], held_of([DEFINITION, bad]), ALICE).revisions()
    host.now = ALICE.now
    host.reads(again)
    assert (host.reason(), host.reader.problem) == (Reason.ASSIGNED, None)
    healed = held_of([DEFINITION, bad, again])
    assert (list(remarks(healed)), planned([AS_WRITTEN], healed, ALICE).unchanged) == ([], (ID,))


def test_an_experiment_of_which_workers_take_nothing_is_none_and_can_begin() -> None:
    held = held_of([replace(DEFINITION, owner="")])
    with pytest.raises(PlanRefused, match="there is no such experiment"):
        stopped(ID, held, ALICE)
    (first,) = planned([AS_WRITTEN], held, ALICE).revisions()
    assert held_of([replace(DEFINITION, owner=""), first]) == Held((first,), highest={ID: 2})


@pytest.mark.parametrize(
    ("key", "following"),
    [("ab-1:5", 6), (f"ab-1:{REVISION_MAX}", 2), pytest.param(f"ab-1:{'9' * 5_000}", 2, id="endless"), ("ab-1", 2)],
)
def test_a_record_that_is_none_takes_the_number_that_its_key_names_if_others_can_follow(key: str, following: int) -> None:
    (end,) = stopped(ID, held_of([DEFINITION, Refused("topic[0] at 7", key, "no such schema")]), ALICE).revisions()
    assert end.revision == following


def test_what_is_refused_is_told_by_name_and_the_rest_by_number() -> None:
    held = held_of([Refused(f"topic[0] at {place}", "k", "no such schema") for place in range(101)])
    told = list(remarks(held))
    assert told[0] == "workers refuse topic[0] at 1, key 'k': no such schema"
    assert told[-1] == "workers refuse 1 more before them"


@pytest.mark.parametrize("found", [[], [replace(DEFINITION, bucket_ranges=(BucketRange(0, 1),))]])
def test_what_this_hosts_workers_have_and_the_topic_has_lost_is_not_built_on(found: list[ExperimentDefinition]) -> None:
    held = held_of(found, [DEFINITION])
    assert held.lost == (DEFINITION,)
    assert list(remarks(held))[-1].startswith("the topic has lost ab-1:1, which this host's workers have")
    with pytest.raises(PlanRefused, match="the topic has lost ab-1:1"):
        stopped(ID, held, ALICE)
    with pytest.raises(PlanRefused, match="the topic has lost ab-1:1"):
        planned([AS_WRITTEN], held, ALICE)
    refuse_lost(held, {ExperimentId("ab-2")})
    assert held_of([DEFINITION, STOPPED], [DEFINITION]).lost == ()


def test_what_is_published_together_is_taken_by_hosts_that_read_it_one_by_one(tmp_path: Path) -> None:
    end, ahead = replace(AS_WRITTEN, status=ExperimentStatus.ENDED), Micros(ALICE.now + (QUARANTINE_S + 1) * 1_000_000)
    heir = replace(AS_WRITTEN, experiment_id=ExperimentId("ab-2"), arm_salt="arm-2", effective_at=ahead)
    host = Host(tmp_path)
    for revision in (DEFINITION, *planned([heir, end], held_of([DEFINITION]), ALICE).revisions()):
        host.reads(revision)
    assert (len(host.contents().revisions), host.contents().refused) == (3, ())


class Installation:
    """Its commands, and a host of it whose worker asks Kafka only now and then."""

    def __init__(self, variables: Mapping[str, str], directory: Path) -> None:
        self.snapshot, self.file = directory / "experiments", directory / "ab-1.json"
        self._variables, self._settings = variables, ProducerSettings.from_environment(variables)
        self.file.write_text(json.dumps(WISH), encoding="utf-8")

    def run(self, *arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(main, ["experiments", *arguments], env={**self._variables, **variables})

    def said(self, *arguments: str, **variables: str) -> Any:
        result = self.run(*arguments, "--json", **variables)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def past_the_desk(self, *revisions: ExperimentDefinition) -> None:
        with closing(publisher_for(self._settings)) as publisher:
            publisher.publish(lambda: revisions, 15)

    def follow(self) -> Contents:
        with closing(experiment_log_for(self._settings)) as log:
            assert eventually(Follower(log, self.snapshot, now_us).round, 30)
        return contents_of(self.snapshot)


@pytest.fixture
def here(installation: Mapping[str, str], tmp_path: Path) -> Installation:
    return Installation(installation, tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize("command", ["stop", "apply"])
def test_the_commands_say_what_workers_refuse_and_heal_it(here: Installation, command: str) -> None:
    here.said("apply", str(here.file))
    (running,) = here.follow().revisions
    here.past_the_desk(replace(running, revision=2, arm_salt="another"))
    assert [each.key for each in here.follow().refused] == ["ab-1:2"]
    listed, told = here.said("list"), here.run("list")
    assert [each["revision"] for each in listed["experiments"]] == [1]
    assert [each["key"] for each in listed["refused"]] == ["ab-1:2"]
    assert "workers refuse ab-1:2: arm_salt cannot change" in told.stderr
    done = here.said(command, "ab-1" if command == "stop" else str(here.file))
    assert (done["changes"][0]["revision"]["revision"], done["changes"][0]["base"]) == (3, 1)
    assert [each["key"] for each in done["refused"]] == ["ab-1:2"]
    contents = here.follow()
    assert [(each.revision, each.status == "ended") for each in contents.revisions] == [(1, False), (3, command == "stop")]
    assert contents.refused == ()
    assert here.said("list")["refused"] == []


@pytest.mark.integration
def test_a_topic_that_was_lost_is_put_back_from_a_hosts_snapshot(here: Installation) -> None:
    lost = [DEFINITION, replace(DEFINITION, revision=2, owner="else")]
    write(here.snapshot, 1, now_us(), encode_body(Contents(tuple(lost))))
    named = {"TAILRACE_EXPERIMENTS_SNAPSHOT": str(here.snapshot)}
    assert here.said("list", **named)["lost"] == ["ab-1:1", "ab-1:2"]
    for command in (("plan", str(here.file)), ("apply", str(here.file)), ("stop", "ab-1")):
        refused = here.run(*command, **named)
        assert (refused.exit_code, "`tailrace experiments restore`" in refused.stderr) == (1, True)
    assert here.said("restore", str(here.snapshot)) == {"restored": ["ab-1:1", "ab-1:2"]}
    assert here.said("restore", str(here.snapshot)) == {"restored": []}
    assert here.said("stop", "ab-1", **named)["changes"][0]["revision"]["revision"] == 3
    assert [each.revision for each in here.follow().revisions] == [1, 2, 3]


@pytest.mark.integration
def test_nothing_is_put_back_over_what_stands_against_it(here: Installation, tmp_path: Path) -> None:
    here.said("apply", str(here.file))
    write(here.snapshot, 1, now_us(), encode_body(Contents((DEFINITION, STOPPED))))
    refused = here.run("restore", str(here.snapshot))
    assert (refused.exit_code, "ab-1:1: workers would refuse it beside what the topic has by now" in refused.stderr) == (1, True)
    assert len(here.said("show", "ab-1")) == 1
    here.snapshot.write_bytes(b"torn")
    torn = here.run("list", TAILRACE_EXPERIMENTS_SNAPSHOT=str(here.snapshot))
    assert (torn.exit_code, f"{here.snapshot}: its head is not one" in torn.stderr) == (0, True)
    assert here.run("restore", str(here.snapshot)).exit_code == 2
    absent = {"TAILRACE_EXPERIMENTS_SNAPSHOT": str(tmp_path / "nobody-has-followed-here")}
    assert (here.run("list", **absent).exit_code, here.run("list", **absent).stderr) == (0, "")
