"""The demo as its users see it: one command, from an empty home to scorecards that can be checked against the log by hand."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from deploy.cli import main
from deploy.demo.open_bandit_log import load_sample
from deploy.installing import bring_up
from deploy.local.stack import stop_stack
from schemas.events import ExperimentId
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import BEGAN_AT, Ledger
from tests.conftest import processes_of
from tests.demo.published import PUBLISHED_CLICKS

pytestmark = pytest.mark.integration

TIMEOUT_S = 300
LOG, USERS = "open bandit log", "simulated users"


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.cli", "demo", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, stack: Mapping[str, str]) -> Iterator[Path]:
    """`stack` has filled the cache of programs, or has skipped the test where there is none."""
    assert stack
    home = tmp_path_factory.mktemp("demo") / "home"
    yield home
    stop_stack(home)


@pytest.fixture(scope="module")
def finished(home: Path) -> "subprocess.CompletedProcess[str]":
    """The demo, run once for all tests of this module."""
    return demo("--json", "--home", str(home))


@pytest.fixture(scope="module")
def report(finished: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)
    return document


def test_everything_that_was_emitted_arrives_once(report: dict[str, Any]) -> None:
    assert report["complete"] is True
    assert report["emitted"][LOG] == {"served": 60_000, "clicks": 287}
    assert report["emitted"][USERS]["served"] == 2_000
    assert report["dropped"] == {}
    assert report["dead_letters"] == 0
    for by_source in report["arrived"].values():
        assert by_source.keys() == {LOG, USERS}
        assert [(found["missing"], found["duplicated"], found["unknown"]) for found in by_source.values()] == [(0, 0, 0)] * 2
    assert report["arrived"]["recommendations"][LOG]["rows"] == 60_000
    assert report["arrived"]["interactions"][LOG]["rows"] == 287


def test_clicks_by_log_are_those_of_the_published_sample(report: dict[str, Any]) -> None:
    arrived = {(log["policy"], log["campaign"]): (log["rows_arrived"], log["clicks_arrived"]) for log in report["logs"]}

    assert arrived == {log: (10_000, clicks) for log, clicks in PUBLISHED_CLICKS.items()}


def test_a_call_that_is_sent_again_is_stored_again_and_counts_once(report: dict[str, Any]) -> None:
    for by_source in report["arrived"].values():
        assert by_source[USERS]["rows"] == by_source[USERS]["sent"] > by_source[USERS]["events"]
    assert report["users"]["sent_again"] > 0
    assert report["users"]["clicks_arrived"] == report["users"]["clicks"] == report["arrived"]["interactions"][USERS]["events"]


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_a_scorecard_of_the_log_agrees_with_statsmodels_on_the_log_itself(report: dict[str, Any], campaign: str) -> None:
    clicks = {policy: [0.0] * 10_000 for policy in ("random", "bts")}
    for impression in load_sample():
        if impression.campaign == campaign:
            clicks[impression.policy][impression.row] = float(impression.clicked)
    compared = CompareMeans(DescrStatsW(clicks["bts"]), DescrStatsW(clicks["random"]))
    low, high = compared.tconfint_diff(usevar="unequal")
    _, p_value, _ = compared.ttest_ind(usevar="unequal")

    card = next(card for card in report["scorecards"] if card["experiment_id"] == f"obd-{campaign}")
    difference = card["metrics"][0]["comparisons"][0]["difference"]
    assert difference["absolute"]["low"] == pytest.approx(low, abs=1e-9)
    assert difference["absolute"]["high"] == pytest.approx(high, abs=1e-9)
    assert difference["p"]["value"] == pytest.approx(p_value, abs=1e-9)
    assert card["readable"] is True


def test_the_simulated_users_come_out_the_same_in_every_run(report: dict[str, Any]) -> None:
    reading = report["simulated_reading"]

    assert reading["expected"] == pytest.approx({"popularity": 0.18, "plackett_luce": 0.3296446}, abs=1e-6)
    assert reading["covered"] is True
    assert Counter(remark["code"] for remark in report["scorecards"][3]["alarms"]) == {}
    assert report["users"]["clicks"] == 484


def test_the_logs_scorecards_stay_byte_for_byte_after_a_replay_and_as_of_their_offsets_after_more_events(
    report: dict[str, Any], home: Path
) -> None:
    variables = bring_up({**os.environ, "TAILRACE_HOME": str(home)}, print).variables
    cards = report["scorecards"][:3]
    try:
        before = {card["experiment_id"]: scorecard(card, variables) for card in cards}
        assert [json.loads(before[card["experiment_id"]])["as_of"] for card in cards] == [card["as_of"] for card in cards]

        replay_all(variables, "recommendations")
        replay_all(variables, "interactions")
        assert {card["experiment_id"]: scorecard(card, variables) for card in cards} == before

        serve_one_more_unit(variables, *before)
        for card in cards:
            assert scorecard(card, variables) != before[card["experiment_id"]]
            assert scorecard(card, variables, "--as-of", json.dumps(card["as_of"])) == before[card["experiment_id"]]
    finally:
        stop_stack(home)


def replay_all(variables: Mapping[str, str], topic: str) -> None:
    """Every row of the topic's table is another one afterwards."""
    planned = tailrace(variables, "plan", "--topic", topic, "--from", "beginning", "--json")
    run = json.loads(planned)["run"]
    for step in ("run", "verify", "swap"):
        tailrace(variables, step, run)


def tailrace(variables: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "deploy.cli", "replay", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def scorecard(card: dict[str, Any], variables: Mapping[str, str], *arguments: str) -> str:
    asked = ["scorecard", card["experiment_id"], "--control", card["control"], "--json", *arguments]
    result = CliRunner().invoke(main, asked, env=dict(variables))
    assert result.exit_code == 0, result.output
    return result.stdout


def serve_one_more_unit(variables: Mapping[str, str], *experiments: str) -> None:
    ingest = Ingest(variables["TAILRACE_WAREHOUSE_URL"])
    for experiment in experiments:
        ledger = Ledger(ExperimentId(experiment), random.Random(experiment))
        ledger.serve(ledger.unit(1), BEGAN_AT, "random")
        ingest.write(ledger.served)
    ingest.close()


def test_no_process_is_left(report: dict[str, Any], home: Path) -> None:
    assert report["complete"]
    assert processes_of(home) == []


def test_progress_is_told_apart_from_the_result(finished: "subprocess.CompletedProcess[str]", home: Path) -> None:
    assert "the sink has caught up" in finished.stderr
    assert f"export TAILRACE_HOME={home}" in finished.stderr


def test_a_home_that_no_demo_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")

    refused = demo("--home", str(tmp_path))

    assert refused.returncode == 2
    assert "no demo made it" in refused.stderr
    assert (tmp_path / "precious").read_text() == "keep me"


def test_a_demo_that_is_told_to_end_leaves_no_process(tmp_path: Path, stack: Mapping[str, str]) -> None:
    assert stack
    home = tmp_path / "home"
    command = [sys.executable, "-m", "deploy.cli", "demo", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("is ready on port" in line for line in running.stderr)
        running.terminate()
        running.stderr.read()
        assert running.wait(TIMEOUT_S) == 128 + signal.SIGTERM

    assert processes_of(home) == []
