"""Experiments into the topic: through files and commands, all or nothing, and one at a time."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from fastavro.types import Schema

from deploy.cli import main
from deploy.experiments.held import held_of
from deploy.experiments.yaml_files import load
from producers.config import ProducerSettings
from producers.errors import SchemaUnavailable
from producers.experiment_log import LogUnavailable, Refused, read_to_end
from producers.experiment_publisher import Overtaken
from producers.kafka_experiment_log import KafkaExperimentLog
from producers.main import experiment_log_for, publisher_for
from producers.schema_ids import RegistrySchemaIds
from producers.writer_schemas import RegistryWriterSchemas
from schemas.codec import Codec
from schemas.events import ExperimentDefinition, ExperimentId, ExperimentStatus
from schemas.experiment_files import ExperimentFileError
from schemas.topics import EXPERIMENTS, topic_name
from schemas.wire import header
from tests.schemas.experiment_samples import DEFINITION, DOCUMENT
from tests.waiting import eventually

NOWHERE = {"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"}
FILLED_IN = {"revision", "changed_by", "changed_at", "effective_at"}
WISH = {name: value for name, value in DOCUMENT.items() if name not in FILLED_IN}
YAML = """
experiment_id: ab-1
kind: ab
owner: ranking
hypothesis: it helps
status: running
unit_type: user
surfaces: [home]
arms:
  - {name: control, weight: 1}
  - {name: treatment, weight: 1, parameters: {policy: plackett_luce}}
bucket_ranges: [{first: 0, end: 1_000_000}]
layer_id: ranking
layer_salt: layer-1
arm_salt: arm-1
"""


def run(*arguments: str, variables: Mapping[str, str] = NOWHERE) -> Result:
    return CliRunner().invoke(main, ["experiments", *arguments], env=dict(variables))


def write(path: Path, document: Any) -> str:
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def test_a_file_is_yaml_or_json_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ab-1.yaml"
    path.write_text(YAML, encoding="utf-8")
    assert load(path) == WISH == load(Path(write(tmp_path / "ab-1.json", WISH)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("owner: a\nowner: b", "the key 'owner' is there twice"),
        ("arms: [{name: a, name: b}]", "the key 'name' is there twice"),
        ("1: a", "the key 1 is no text"),
        ("{", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
    ],
)
def test_what_yaml_would_let_pass_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ExperimentFileError, match=problem):
        load(path)


def test_dates_stay_texts_and_norway_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ab-1.yaml"
    path.write_text(YAML + "effective_at: 2026-01-02T03:04:05Z\neligibility: [{key: country, values: [no]}]\n", encoding="utf-8")
    result = run("validate", str(path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["ab-1.eligibility[0].values[0]: should be a text, not False"]


def test_validation_names_every_problem_of_every_file_and_needs_nothing_to_run(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", WISH)
    assert run("validate", good).output == "sound: ab-1:1\n"
    bad = write(tmp_path / "bad.json", [{**WISH, "owner": ""}, {**WISH, "experiment_id": "ab-2", "arms": []}])
    result = run("validate", bad, "--json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert {"ab-1:1: owner is empty", "ab-2:1: has fewer than two arms"} <= set(problems)
    assert any("share the arm_salt" in problem for problem in problems)
    both = run("validate", good, write(tmp_path / "worse.json", {**WISH, "arm": 1}))
    assert (both.exit_code, "worse.json: ab-1.arm: is not a field" in both.stderr) == (1, True)


@pytest.mark.parametrize("command", [("plan",), ("apply",), ("apply", "--dry-run")])
def test_a_part_that_is_away_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(*command, write(tmp_path / "ab-1.json", WISH))
    assert result.exit_code == 3
    assert "127.0.0.1:1" in result.stderr


@pytest.mark.integration
def test_an_experiments_life_by_its_commands(installation: Mapping[str, str], tmp_path: Path) -> None:
    def answer(*arguments: str) -> Any:
        result = run(*arguments, "--json", variables=installation)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    path = write(tmp_path / "ab-1.json", {**WISH, "bucket_ranges": [{"first": 0, "end": 10_000}]})
    planned = answer("plan", path)
    assert (planned["applied"], [change["base"] for change in planned["changes"]]) == (False, [None])
    assert answer("list") == {"experiments": [], "refused": [], "refused_before": 0, "lost": []}
    applied = answer("apply", path, "--plan", planned["plan_hash"], "--by", "alice")
    revision = applied["changes"][0]["revision"]
    assert (revision["revision"], revision["changed_by"], revision["plan_hash"]) == (1, "alice", planned["plan_hash"])
    assert answer("apply", path)["unchanged"] == ["ab-1"]

    write(Path(path), {**WISH, "bucket_ranges": [{"first": 0, "end": 50_000}]})
    assert answer("apply", path, "--dry-run")["changes"][0]["differences"] == [
        "bucket_ranges: 0–10000 (1.0000% of the layer) → 0–50000 (5.0000% of the layer)"
    ]
    assert answer("apply", path)["changes"][0]["base"] == 1

    write(Path(path), {**WISH, "bucket_ranges": [{"first": 0, "end": 50_000}], "arm_salt": "another"})
    refused = run("apply", path, "--json", variables=installation)
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["problems"] == [
        "ab-1:3: arm_salt cannot change once it has started: start another experiment, with an arm_salt of its own"
    ]

    stopped = answer("stop", "ab-1", "--by", "bob")["changes"][0]["revision"]
    assert (stopped["status"], stopped["ended_at"]) == ("ended", stopped["changed_at"])
    assert run("stop", "ab-1", variables=installation).exit_code == 1
    history = answer("show", "ab-1")
    assert [(each["revision"], each["status"], each["changed_by"]) for each in history][1:] == [
        (2, "running", history[1]["changed_by"]),
        (3, "ended", "bob"),
    ]
    assert run("show", "ab-9", variables=installation).exit_code == 1


@pytest.mark.integration
def test_of_two_that_publish_at_once_one_wins_and_nothing_of_the_other_is_there(installation: Mapping[str, str]) -> None:
    settings = ProducerSettings.from_environment(installation)
    first_is_inside, second_is_done = threading.Event(), threading.Event()
    one, other = publisher_for(settings), publisher_for(settings)

    def choose_late() -> list[ExperimentDefinition]:
        first_is_inside.set()
        assert second_is_done.wait(30)
        return [DEFINITION, replace(DEFINITION, revision=2)]

    outcome: list[BaseException | tuple[ExperimentDefinition, ...]] = []

    def publish_late() -> None:
        try:
            outcome.append(one.publish(choose_late, 15))
        except Overtaken as error:
            outcome.append(error)

    thread = threading.Thread(target=publish_late)
    thread.start()
    assert first_is_inside.wait(30)
    winner = replace(DEFINITION, experiment_id=ExperimentId("ab-2"), arm_salt="arm-2", status=ExperimentStatus.DRAFT)
    assert other.publish(lambda: [winner], 15) == (winner,)
    second_is_done.set()
    thread.join(60)
    assert [type(each) for each in outcome] == [Overtaken]
    log = experiment_log_for(settings)
    assert read_to_end(log, 15) == [winner]
    for part in (one, other, log):
        part.close()


def said(process: "subprocess.Popen[str]") -> Any:
    return json.loads(process.communicate(timeout=60)[0])


@pytest.mark.integration
def test_two_applies_at_once_never_build_on_the_same_revision(installation: Mapping[str, str], tmp_path: Path) -> None:
    def apply(owner: str) -> "subprocess.Popen[str]":
        path = write(tmp_path / f"{owner}.json", {**WISH, "owner": owner})
        command = [sys.executable, "-m", "deploy.cli", "experiments", "apply", path, "--json"]
        return subprocess.Popen(command, env={**os.environ, **installation}, stdout=subprocess.PIPE, text=True)

    assert said(apply("nobody"))["changes"]
    both = [apply("alice"), apply("bob")]
    answers = [said(process) for process in both]
    won = sorted((each["changes"][0]["revision"] for each in answers if each["changes"]), key=lambda each: int(each["revision"]))
    assert [process.returncode for process in both] == [0 if each["changes"] else 1 for each in answers]
    log = experiment_log_for(ProducerSettings.from_environment(installation))
    standing = held_of(read_to_end(log, 15)).revisions
    log.close()
    assert [each.revision for each in standing] == list(range(1, len(won) + 2))
    assert [each.owner for each in standing[1:]] == [each["owner"] for each in won]


class LateSchemas:
    """A registry that goes away at its second question, and comes back at the third."""

    def __init__(self, url: str) -> None:
        self._registry, self._asked = RegistryWriterSchemas(url), 0

    def schema(self, schema_id: int) -> Schema:
        self._asked += 1
        if self._asked == 2:
            raise SchemaUnavailable(str(schema_id), "the registry does not answer", registered=None)
        return self._registry.schema(schema_id)

    def close(self) -> None:
        self._registry.close()


@pytest.mark.integration
def test_nothing_that_was_read_is_lost_while_the_registry_is_away(installation: Mapping[str, str]) -> None:
    settings = ProducerSettings.from_environment(installation)
    revisions = [replace(DEFINITION, revision=number) for number in (1, 2, 3)]
    publisher = publisher_for(settings)
    publisher.publish(lambda: revisions, 15)
    publisher.close()
    topic = topic_name(settings.topic_prefix, EXPERIMENTS)
    log = KafkaExperimentLog(settings.kafka_bootstrap, {}, LateSchemas(settings.registry_url), topic)
    found: list[ExperimentDefinition | Refused] = []

    def all_read() -> bool:
        with suppress(LogUnavailable):
            found.extend(log.poll(0.2))
        return len(found) >= 3

    def at_the_end() -> bool:
        """Behind the last revision stands the mark of its transaction."""
        found.extend(log.poll(0.2))
        return log.caught_up(10)

    assert eventually(all_read, 30)
    assert eventually(at_the_end, 30)
    assert found == revisions
    log.close()


@pytest.mark.integration
def test_records_that_are_no_revisions_are_named_and_stop_nobody(installation: Mapping[str, str], tmp_path: Path) -> None:
    settings = ProducerSettings.from_environment(installation)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    topic = topic_name(settings.topic_prefix, EXPERIMENTS)
    with closing(RegistrySchemaIds(settings.registry_url, settings.topic_prefix)) as ids:
        schema_id = ids.lookup(EXPERIMENTS)
    misplaced = Codec(ExperimentDefinition).encode(DEFINITION, schema_id)
    for key, value in (("a:1", b"garbage"), ("b:1", header(9_999) + b"x"), ("c:1", header(schema_id)), ("d:1", misplaced)):
        producer.produce(topic, value, key)
    producer.produce(topic, None, "e:1")
    assert producer.flush(15) == 0
    listed = json.loads(run("list", "--json", variables=installation).stdout)
    assert listed["experiments"] == []
    problems = {each["key"]: each["problem"] for each in listed["refused"]}
    assert problems.keys() == {"a:1", "b:1", "c:1", "d:1", "e:1"}
    assert "no schema 9999" in problems["b:1"]
    assert problems["d:1"] == "the key is not that of ab-1:1"
    assert "tombstone" in problems["e:1"]
    applied = run("apply", write(tmp_path / "ab-1.json", WISH), variables=installation)
    assert applied.exit_code == 0, applied.output
    for stderr in (applied.stderr, run("list", variables=installation).stderr):
        assert stderr.count("workers refuse") == 5
