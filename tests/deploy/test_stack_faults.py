"""What goes wrong before a stack runs, and processes that are not ours."""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jgo.maven
import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.local.artifacts import Artifact, damaged, fetch_programs, locked_artifacts
from deploy.local.part import Part
from deploy.local.stack import stop_stack
from deploy.local.supervisor import LOG_BYTES_MAX, RESTART_DELAY_MAX_S, RESTARTS_MAX, SupervisedPart, bound_log
from schemas.errors import PartUnreachable

TIMEOUT_S = 30
NOWHERE = "http://127.0.0.1:1"


def tailrace(*arguments: str, variables: Mapping[str, str]) -> Result:
    unset = {name: None for name in os.environ if name.startswith("TAILRACE_")}
    return CliRunner().invoke(main, list(arguments), env={**unset, **variables})


def places(directory: Path) -> dict[str, str]:
    return {"TAILRACE_HOME": str(directory / "home"), "TAILRACE_CACHE": str(directory / "cache")}


def test_without_a_network_and_a_cache_up_exits_with_3_and_names_the_file(tmp_path: Path) -> None:
    refused = tailrace("up", variables={**places(tmp_path), "HTTPS_PROXY": NOWHERE, "https_proxy": NOWHERE})

    assert refused.exit_code == 3
    assert "Maven Central" in refused.output
    assert "connect to the network" in refused.output


def test_a_home_that_cannot_be_made_exits_with_3_and_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refused = tailrace("up", variables={"TAILRACE_HOME": str(tmp_path / "file" / "home")})

    assert refused.exit_code == 3
    assert "TAILRACE_HOME" in refused.output


def test_a_port_that_is_none_exits_with_2(tmp_path: Path) -> None:
    refused = tailrace("up", variables={**places(tmp_path), "TAILRACE_KAFKA_PORT": "many"})

    assert refused.exit_code == 2
    assert "TAILRACE_KAFKA_PORT" in refused.output


@pytest.mark.parametrize("command", ["status", "env", "doctor", "down"])
def test_commands_answer_where_nothing_was_ever_started(command: str, tmp_path: Path) -> None:
    expected = {"status": 1, "env": 3, "doctor": 1, "down": 0}

    assert tailrace(command, variables=places(tmp_path)).exit_code == expected[command]
    assert not (tmp_path / "home").exists()


def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Artifact:
    """The first locked artifact, for which the repository has `content`."""

    def resolve(found: jgo.maven.Artifact) -> Path:
        path = tmp_path / "fetched" / found.filename
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    monkeypatch.setattr(jgo.maven.Artifact, "resolve", resolve)
    return locked_artifacts()[0]


def test_a_file_whose_sum_differs_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = artifact(tmp_path, monkeypatch, b"other bytes")
    registry = next(each for each in locked_artifacts() if each.group == "io.apicurio")

    with pytest.raises(PartUnreachable, match="its SHA-256 sum is") as refused:
        fetch_programs(tmp_path / "cache", print, [wanted, registry])

    assert str(wanted) in str(refused.value)
    assert list(damaged(tmp_path / "cache", [wanted])) == [wanted]


def test_a_file_that_was_changed_in_the_cache_is_found(tmp_path: Path) -> None:
    kept = replace(locked_artifacts()[0], sha256="3e25960a79dbc69b674cd4ec67a72c62b3aa32b1d4b1e0a5b6b3a9c6f1e4d5a7")
    kept.cached(tmp_path).parent.mkdir(parents=True)
    kept.cached(tmp_path).write_bytes(b"changed")

    assert list(damaged(tmp_path, [kept])) == [kept]


def test_every_locked_artifact_has_a_version_and_a_sum() -> None:
    assert all(each.version and len(each.sha256) == 64 for each in locked_artifacts())
    assert "http" not in "".join(str(each) for each in locked_artifacts())


def test_a_process_that_got_a_noted_id_later_is_left_alone(tmp_path: Path) -> None:
    """The run names this very process, with another start time. Were it ended, so were the test."""
    foreign = {"pid": os.getpid(), "started_at": 1.0}
    part = {"name": "kafka", "process": foreign, "restarts": 0, "gave_up": False}
    (tmp_path / "run.json").write_text(json.dumps({"supervisor": foreign, "parts": [part]}))

    assert stop_stack(tmp_path) == []
    assert not (tmp_path / "run.json").exists()


def test_a_part_that_ends_at_every_start_is_given_up_and_tried_again_on_request(tmp_path: Path) -> None:
    part = Part("kafka", (sys.executable, "-c", "raise SystemExit(7)"), tmp_path, 1, lambda: False)
    supervised = SupervisedPart(part, tmp_path / "log")
    now, deadline = 0.0, time.monotonic() + TIMEOUT_S

    while not supervised.run.gave_up and time.monotonic() < deadline:
        now += 0.0 if supervised.run.process else RESTART_DELAY_MAX_S
        supervised.watch(now)

    assert supervised.run.gave_up
    assert supervised.run.restarts == RESTARTS_MAX + 1
    supervised.retry()
    supervised.watch(now)
    assert supervised.run.process is not None
    supervised.end()
    supervised.wait(time.monotonic() + TIMEOUT_S)


def test_a_log_stays_within_its_bound_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * (LOG_BYTES_MAX + 1))
        bound_log(log)
        writer.write(b"later")

    assert log.read_bytes() == b"later"
    assert (tmp_path / "kafka.log.1").stat().st_size == LOG_BYTES_MAX + 1
