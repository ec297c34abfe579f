"""`tailrace experiments explain | kill`: what they say is what serving does."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from producers.experiment_log import Refused
from producers.main import now_us
from schemas.events import BucketRange, EligibilityRule, ExperimentDefinition, ExperimentId, ExperimentStatus, Micros, UnitId
from schemas.experiment_rules import BUCKETS
from serving_worker.experiments.assignment import Asker, Reason, bucket_of
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import snapshot_of
from serving_worker.experiments.explanation import explain
from serving_worker.experiments.snapshot_file import Contents, encode_body, write
from tests.schemas.experiment_samples import DEFINITION, DOCUMENT, NOW
from tests.serving_worker.test_decision import HOLDBACK, LAYERS, twenty

FILLED_IN = {"revision", "changed_by", "changed_at", "effective_at"}
WISH = {name: value for name, value in DOCUMENT.items() if name not in FILLED_IN}


def run(*arguments: str, variables: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["experiments", *arguments], env=dict(variables or {}))


def explained(
    *definitions: ExperimentDefinition, unit: str = "unit-1", context: Mapping[str, str] | None = None, forced: Any = None
) -> Any:
    return explain(snapshot_of(definitions), Asker("user", UnitId(unit), "home", context or {}, forced or {}), NOW, "popularity")


def test_each_step_is_that_of_the_decision() -> None:
    for number in range(300):
        unit = f"user-{number}"
        found = explained(HOLDBACK, *twenty(), unit=unit)
        assert found.decision == decide(
            snapshot_of([HOLDBACK, *twenty()]), Asker("user", UnitId(unit), "home", {}), NOW, "popularity"
        )
        assert [step.of for step in found.steps] == ["holdback held-2026:1", *(f"layer {name}" for name in sorted(LAYERS))]
        assert [step.reason for step in found.steps] == [each.reason for each in found.decision.assignments]
        for step, assignment in zip(found.steps, found.decision.assignments, strict=True):
            assert (f"arm {assignment.arm}" in step.facts) == (assignment.arm is not None)


def test_the_bucket_its_holder_and_what_kept_the_unit_out_are_shown() -> None:
    rule = EligibilityRule("country", ("de", "fr"))
    (step,) = explained(replace(DEFINITION, eligibility=(rule,)), context={"country": "us"}).steps
    assert step.reason == Reason.NOT_ELIGIBLE
    assert step.facts == (
        f"murmur3(layer, 'layer-1', 'unit-1') of {BUCKETS}: bucket {bucket_of('layer-1', 'unit-1')}",
        "ab-1:1 holds it: running, of user, on home",
        "context country='us' does not fit de, fr",
    )
    (free,) = explained(replace(DEFINITION, bucket_ranges=(BucketRange(0, 1),))).steps
    assert (free.reason, free.facts[1]) == (Reason.NO_EXPERIMENT, "nobody holds the bucket")


def test_a_forced_arm_is_shown_as_forced() -> None:
    found = explained(DEFINITION, forced={ExperimentId("ab-1"): "treatment"})
    assert "the request forces ab-1 to treatment" in found.steps[0].facts
    assert found.decision.forced


def test_a_file_is_explained_before_it_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "ab-1.json"
    path.write_text(json.dumps(WISH), encoding="utf-8")
    text = run("explain", "unit-1", "--surface", "home", "--file", str(path))
    assert text.exit_code == 0, text.output
    assert "layer ranking: assigned" in text.output
    answer = json.loads(run("explain", "unit-1", "--surface", "search", "--file", str(path), "--json").output)
    assert answer["steps"][0]["reason"] == Reason.OTHER_SURFACE
    path.write_text(json.dumps({**WISH, "owner": ""}), encoding="utf-8")
    wrong = run("explain", "unit-1", "--surface", "home", "--file", str(path))
    assert (wrong.exit_code, "owner is empty" in wrong.output) == (1, True)


def test_a_hosts_snapshot_is_explained_as_its_workers_serve_it(tmp_path: Path) -> None:
    path = tmp_path / "experiments"
    asked = ("explain", "unit-1", "--surface", "home", "--snapshot", str(path), "--json")

    def reason() -> str:
        result = run(*asked)
        assert result.exit_code == 0, result.output
        return str(json.loads(result.output)["steps"][0]["reason"])

    write(path, 1, now_us(), encode_body(Contents((DEFINITION,))))
    assert reason() == Reason.ASSIGNED
    assert run("kill", "ab-1", variables={"TAILRACE_EXPERIMENTS_SNAPSHOT": str(path)}).exit_code == 0
    assert reason() == Reason.KILLED
    assert run("kill", "ab-1", "--lift", "--file", f"{path}.kill").exit_code == 0
    assert reason() == Reason.ASSIGNED
    write(path, 1, Micros(now_us() - 10**12), encode_body(Contents((DEFINITION,))))
    assert reason() == Reason.STALE_CONFIG


def explained_here(*arguments: str, **variables: str) -> Any:
    result = run("explain", "unit-1", "--surface", "home", *arguments, "--json", variables=variables)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_workers_own_kill_file_and_greatest_age_count(tmp_path: Path) -> None:
    path, killed = tmp_path / "experiments", tmp_path / "killed"
    write(path, 1, Micros(now_us() - 100_000_000), encode_body(Contents((DEFINITION,))))
    killed.write_text("ab-1\n", encoding="utf-8")

    def reason(**variables: str) -> str:
        return str(explained_here("--snapshot", str(path), **variables)["steps"][0]["reason"])

    assert reason() == Reason.ASSIGNED
    assert reason(TAILRACE_EXPERIMENTS_KILL_FILE=str(killed)) == Reason.KILLED
    assert reason(TAILRACE_EXPERIMENTS_AGE_S_MAX="99") == Reason.STALE_CONFIG
    assert reason(TAILRACE_EXPERIMENTS_AGE_S_MAX="1000") == Reason.ASSIGNED


def test_what_workers_refuse_or_leave_out_of_a_snapshot_is_said(tmp_path: Path) -> None:
    path = tmp_path / "experiments"
    refused = Refused("topic[0] at 7", "ab-9:1", "no such schema")
    write(path, 1, now_us(), encode_body(Contents((DEFINITION,), (refused,))))
    told = run("explain", "unit-1", "--surface", "home", "--snapshot", str(path))
    assert (told.exit_code, "ab-9:1: no such schema" in told.stderr) == (0, True)
    path.write_bytes(path.read_bytes()[:-1])
    torn = run("explain", "unit-1", "--surface", "home", "--snapshot", str(path))
    assert (torn.exit_code, "its contents are not those that were written" in torn.stderr) == (1, True)


def test_the_workers_own_file_is_explained_with_all_its_revisions_and_its_kill_file(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps([{**DOCUMENT, "revision": 2}, {**DOCUMENT, "revision": 3, "owner": "else"}]), encoding="utf-8")
    assert explained_here("--file", str(path))["decision"]["assignments"][0]["revision"] == 3
    assert run("kill", "ab-1", variables={"TAILRACE_EXPERIMENTS_FILE": str(path)}).exit_code == 0
    assert explained_here("--file", str(path))["steps"][0]["reason"] == Reason.KILLED


def test_the_default_policy_is_the_workers_unless_another_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text("[]", encoding="utf-8")
    assert explained_here("--file", str(path))["decision"]["policy_id"] == "popularity"
    asked = {"TAILRACE_DEFAULT_POLICY": "plackett_luce"}
    assert explained_here("--file", str(path), **asked)["decision"]["policy_id"] == "plackett_luce"
    assert explained_here("--file", str(path), "--default-policy", "mine", **asked)["decision"]["policy_id"] == "mine"


def test_killing_says_where_and_what(tmp_path: Path) -> None:
    file = tmp_path / "killed"
    assert json.loads(run("kill", "ab-1", "--file", str(file), "--json").output) == {"file": str(file), "killed": ["ab-1"]}
    assert (
        run("kill", "ab-2", variables={"TAILRACE_EXPERIMENTS_KILL_FILE": str(file)}).output == f"{file}: ab-1, ab-2 is killed\n"
    )
    assert run("kill", "ab-9", "--lift", "--file", str(file)).exit_code == 1
    assert run("kill", "ab-1").exit_code == 2
    assert run("kill", "ab-1", "--file", str(tmp_path / "no" / "where")).exit_code == 2


@pytest.mark.parametrize("name", ["ranking #2", "#", " ranking", "ranking ", "a\nranking", "a\x85ranking", "a\u2028ranking", ""])
def test_what_the_kill_file_cannot_name_is_not_killed_and_nothing_else_is(tmp_path: Path, name: str) -> None:
    file = tmp_path / "killed"
    result = run("kill", name, "--file", str(file))
    assert (result.exit_code, "no line of it can name" in result.output, file.exists()) == (2, True, False)
    assert run("kill", name, "--lift", "--file", str(file)).exit_code == 1


def test_what_reads_back_as_itself_can_be_killed_whatever_new_ids_may_be(tmp_path: Path) -> None:
    file = tmp_path / "killed"
    for name in ("größe 2", "a:b=c"):
        assert json.loads(run("kill", name, "--file", str(file), "--json").output)["killed"].count(name) == 1


@pytest.mark.parametrize("pair", ["country", "=x"])
def test_a_context_is_made_of_pairs(tmp_path: Path, pair: str) -> None:
    path = tmp_path / "ab-1.json"
    path.write_text(json.dumps(WISH), encoding="utf-8")
    result = run("explain", "u", "--surface", "home", "--file", str(path), "--context", pair)
    assert result.exit_code == 2


def test_a_draft_is_explained_too() -> None:
    (step,) = explained(replace(DEFINITION, status=ExperimentStatus.DRAFT)).steps
    assert step.reason == Reason.NOT_RUNNING
