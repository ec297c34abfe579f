"""`tailrace scorecard` at the terminal: what it prints, and its exit codes."""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import BEGAN_AT, Ledger, definition

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the command where no local stack is, with these variables only."""
    bare = {"TAILRACE_HOME": str(tmp_path), "TAILRACE_WAREHOUSE_URL": "", "TAILRACE_WAREHOUSE_READ_URL": ""}

    def scorecard(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(main, ["scorecard", *arguments], env={**bare, **variables})

    return scorecard


@pytest.fixture
def nowhere() -> str:
    """The URL of a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://reader:secret@127.0.0.1:{free.getsockname()[1]}/tailrace"


def test_without_a_warehouse_it_says_how_to_get_one_and_exits_with_3(run: Run) -> None:
    result = run("shelf-order")
    assert result.exit_code == 3
    assert "tailrace up" in result.output


def test_a_warehouse_that_is_away_is_named_without_its_password_and_exits_with_3(run: Run, nowhere: str) -> None:
    result = run("shelf-order", TAILRACE_WAREHOUSE_READ_URL=nowhere)
    assert result.exit_code == 3
    assert nowhere.rpartition("@")[2] in result.output
    assert "tailrace up" in result.output
    assert "secret" not in result.output


@pytest.mark.parametrize("arguments", [["--metric", "clicks"], ["--traffic", "ghosts"]])
def test_what_does_not_exist_is_wrong_usage_and_exits_with_2(run: Run, nowhere: str, arguments: list[str]) -> None:
    assert run("shelf-order", *arguments, TAILRACE_WAREHOUSE_URL=nowhere).exit_code == 2


def test_wrong_metric_files_are_wrong_configuration_and_exit_with_2(run: Run, nowhere: str, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("", encoding="utf-8")
    result = run("shelf-order", TAILRACE_WAREHOUSE_URL=nowhere, TAILRACE_METRICS_DIRECTORY=str(tmp_path))
    assert result.exit_code == 2
    assert "title is missing" in result.output
    assert "has no table [value]" in result.output


def test_help_ends_in_examples(run: Run) -> None:
    assert run("--help").output.rstrip().endswith("as Kafka had it then (UTC)")


@pytest.mark.integration
def test_it_prints_the_scorecard_as_text_and_as_json(
    run: Run, installation: Mapping[str, str], ingest: Ingest, ledger: Ledger
) -> None:
    for number in range(40):
        ledger.serve(ledger.unit(number), BEGAN_AT, "sampled" if number % 2 else "control")
        if number % 4 == 1:
            ledger.act(ledger.unit(number), BEGAN_AT, "click")
    for records in (ledger.served, ledger.interactions, [definition(ledger.experiment)]):
        ingest.write(records)
    text = run(ledger.experiment, "--metric", "clicked_share", **installation)
    assert text.exit_code == 0, text.output
    assert f"Scorecard of {ledger.experiment} (ab, running, revision 1, unit user)" in text.output
    answer = run(ledger.experiment, "--metric", "clicked_share", "--control", "sampled", "--json", **installation)
    card = json.loads(answer.output)
    assert (card["schema_version"], card["control"]) == (2, "sampled")
    assert {arm["name"]: arm["metric_means"]["clicked_share"] for arm in card["arms"]} == {
        "control": 0,
        "sampled": 0.5,
        "fresh": None,
    }


@pytest.mark.integration
def test_an_unknown_experiment_exits_with_1_and_names_the_known_ones(
    run: Run, installation: Mapping[str, str], ingest: Ingest, ledger: Ledger
) -> None:
    ingest.write([definition(ledger.experiment)])
    result = run("nobody-has-heard-of-it", **installation)
    assert result.exit_code == 1
    assert ledger.experiment in result.output


@pytest.mark.integration
def test_an_unknown_arm_exits_with_2(run: Run, installation: Mapping[str, str], ingest: Ingest, ledger: Ledger) -> None:
    ingest.write([definition(ledger.experiment)])
    result = run(ledger.experiment, "--control", "placebo", **installation)
    assert result.exit_code == 2
    assert "there are control, sampled, fresh" in result.output


@pytest.mark.integration
def test_a_database_without_our_tables_is_said_to_lack_them_and_exits_with_3(run: Run, installation: Mapping[str, str]) -> None:
    elsewhere = installation["TAILRACE_WAREHOUSE_URL"].rpartition("/")[0] + "/system"
    result = run("shelf-order", TAILRACE_WAREHOUSE_READ_URL=elsewhere)
    assert result.exit_code == 3
    assert "its tables are missing: make them with `tailrace up`" in result.output
