"""What the demo tells: everything arrived once, or what did not, as text and as JSON."""

import dataclasses
import json

import pytest

from deploy.demo.ledger import Comparison
from deploy.demo.log_reading import read_log
from deploy.demo.report import as_json, as_text
from deploy.demo.result import LOG, USERS, DemoResult, LogCount, UsersCount
from deploy.demo.simulated_reading import METRIC, Truth, read_simulated
from deploy.demo.stages import Stage
from tests.demo.scorecards import card, log_cards, log_totals

CLEAN = Comparison(events=10, sent=11, rows=11, missing=0, duplicated=0, unknown=0)


@pytest.fixture
def result() -> DemoResult:
    users_card = card("demo-ranking", (180, 330), METRIC)
    truth = Truth("random", "bts", {"random": 0.02, "bts": 0.03})
    return DemoResult(
        deliveries={"recommendations": {LOG: CLEAN, USERS: CLEAN}, "interactions": {LOG: CLEAN}},
        dropped={},
        dead_letters=0,
        logs=(LogCount("bts", "men", 10_000, 69, 10_000, 69),),
        users=UsersCount(users=500, requests=2_000, clicks=504, sent_again=54, clicks_arrived=504),
        log_cards=log_cards(),
        log_reading=read_log(log_cards(), log_totals()),
        users_card=users_card,
        simulated_reading=read_simulated(users_card, truth),
        stages=(Stage("the stack is up", 7.5),),
        seconds=20.0,
    )


def test_all_that_arrived_once_is_complete(result: DemoResult) -> None:
    assert result.complete
    assert "Everything arrived, once." in as_text(result)
    assert json.loads(as_json(result))["complete"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"deliveries": {"recommendations": {LOG: dataclasses.replace(CLEAN, missing=1)}}},
        {"deliveries": {"recommendations": {LOG: dataclasses.replace(CLEAN, duplicated=1)}}},
        {"deliveries": {"interactions": {"unknown": dataclasses.replace(CLEAN, unknown=1)}}},
        {"dead_letters": 1},
        {"dropped": {"queue_full": 3}},
        {"logs": (LogCount("bts", "men", 10_000, 69, 10_000, 68),)},
        {"logs": (LogCount("bts", "men", 10_000, 69, 9_999, 69),)},
        {"users": UsersCount(users=500, requests=2_000, clicks=504, sent_again=54, clicks_arrived=505)},
    ],
)
def test_whatever_is_missing_or_too_many_is_told(result: DemoResult, wrong: dict[str, object]) -> None:
    changed = dataclasses.replace(result, **wrong)  # type: ignore[arg-type]

    assert not changed.complete
    assert "NOT everything arrived once" in as_text(changed)
    assert json.loads(as_json(changed))["complete"] is False


def test_a_log_that_differs_is_marked(result: DemoResult) -> None:
    changed = dataclasses.replace(result, logs=(LogCount("bts", "men", 10_000, 69, 10_000, 68),))

    assert "DIFFERS" in as_text(changed)
    assert "DIFFERS" not in as_text(result)


def test_the_text_says_once_what_the_log_cannot_show_and_each_card_in_json_does(result: DemoResult) -> None:
    document = json.loads(as_json(result))

    assert as_text(result).count("fixed by sampling") == 1
    for scorecard in document["scorecards"][:3]:
        assert {"slots_of_slates", "size_fixed_by_sampling", "campaigns_corrected", "few_clicks"} <= {
            remark["code"] for remark in scorecard["caveats"]
        }


def test_the_truth_stands_beside_the_interval(result: DemoResult) -> None:
    reading = json.loads(as_json(result))["simulated_reading"]

    assert reading["difference_expected"] == pytest.approx(0.01)
    assert reading["low"] < 0.015 < reading["high"]
    assert reading["covered"] is (reading["low"] <= 0.01 <= reading["high"])
    assert "+0.0100" in as_text(result)


def test_stages_and_the_whole_time_are_in_the_json(result: DemoResult) -> None:
    document = json.loads(as_json(result))

    assert document["stages"] == [{"name": "the stack is up", "seconds": 7.5}]
    assert document["seconds"] == 20.0
