"""The Open Bandit sample: converted text by text, kept whole, and mapped to events without an invented field."""

import dataclasses
import hashlib
import io
import lzma
import re
import zipfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from deploy.demo.convert_open_bandit import convert, main
from deploy.demo.open_bandit import click, definitions, served
from deploy.demo.open_bandit_log import CAMPAIGNS, POLICIES, SAMPLE, Impression, load_sample, parse_sample
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import Assignment, EventId, Interaction, ItemId, RecommendationServed, RequestId, Slot, Traffic, UnitId
from tests.demo.published import PUBLISHED_CLICKS

HEADER = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3,affinity_0"
)

FIRST = "0,2019-11-24 00:00:34.762830+00:00,14,3,0,0.0125,81ce,03a5,c2e4,f975,0.0"
SECOND = "1,2019-11-24 09:00:53+09:00,7,1,1,0.17336500000000002,81ce,2d03,7bc9,9bde,0.5"

ANSWER = EventId("0192d0a0-0000-7000-8000-000000000001")
CLICK = EventId("0192d0a0-0000-7000-8000-000000000002")


@pytest.fixture(scope="module")
def sample() -> list[Impression]:
    return load_sample()


@pytest.fixture
def wheel() -> bytes:
    """A wheel with two rows in every log."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for policy in POLICIES:
            for campaign in CAMPAIGNS:
                name = f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
                archive.writestr(name, f"{HEADER}\n{FIRST}\n{SECOND}\n")
    return content.getvalue()


def converted(wheel: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return convert(archive)


def lines_of(converted: bytes) -> list[str]:
    return lzma.decompress(converted).decode("ascii").splitlines()


def test_conversion_keeps_each_needed_field_as_the_log_wrote_it(wheel: bytes) -> None:
    header, *rows = lines_of(converted(wheel))

    assert header.split(",")[:7] == ["policy", "campaign", "timestamp", "item_id", "position", "click", "propensity_score"]
    assert rows[:2] == [
        "random,all,2019-11-24 00:00:34.762830+00:00,14,3,0,0.0125,81ce,03a5,c2e4,f975",
        "random,all,2019-11-24 09:00:53+09:00,7,1,1,0.17336500000000002,81ce,2d03,7bc9,9bde",
    ]
    assert [tuple(row.split(",")[:2]) for row in rows[::2]] == [
        (policy, campaign) for policy in POLICIES for campaign in CAMPAIGNS
    ]
    assert len(rows) == 12


def test_conversion_gives_the_same_bytes_again(wheel: bytes) -> None:
    assert converted(wheel) == converted(wheel)


def test_another_wheel_is_refused_and_nothing_is_written(wheel: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.whl").write_bytes(wheel)

    with pytest.raises(SystemExit, match=r"SHA-256 sum is .* pip download --no-deps obp==0\.4\.1"):
        main([str(tmp_path / "other.whl"), str(tmp_path / "out.csv.xz")])

    assert not (tmp_path / "out.csv.xz").exists()


def test_a_converted_row_reads_back_exactly(wheel: bytes) -> None:
    impressions = list(parse_sample(lines_of(converted(wheel))))

    assert impressions[1] == Impression(
        policy="random",
        campaign="all",
        row=1,
        shown_at=impressions[1].shown_at,
        item_id="7",
        position=1,
        clicked=True,
        propensity=0.17336500000000002,
        features=("81ce", "2d03", "7bc9", "9bde"),
    )
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    assert epoch + timedelta(microseconds=impressions[0].shown_at) == datetime.fromisoformat("2019-11-24 00:00:34.762830+00:00")
    assert epoch + timedelta(microseconds=impressions[1].shown_at) == datetime.fromisoformat("2019-11-24 00:00:53+00:00")


def test_a_file_with_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        list(parse_sample(["policy,campaign,item_id", "bts,all,1"]))


def test_the_kept_sample_holds_the_published_rows_and_clicks(sample: list[Impression]) -> None:
    assert Counter((row.policy, row.campaign) for row in sample) == dict.fromkeys(PUBLISHED_CLICKS, 10_000)
    assert Counter((row.policy, row.campaign) for row in sample if row.clicked) == PUBLISHED_CLICKS


def test_the_kept_sample_is_what_its_readme_says_and_small() -> None:
    said = re.search(r"`([0-9a-f]{64})`", SAMPLE.with_name("README.md").read_text(encoding="utf-8"))

    assert said is not None
    assert hashlib.sha256(lzma.decompress(SAMPLE.read_bytes())).hexdigest() == said[1]
    assert SAMPLE.stat().st_size < 1_000_000


def test_an_impression_becomes_an_answer_with_one_slot(sample: list[Impression]) -> None:
    event = served(sample[0], ANSWER)

    assert event == RecommendationServed(
        event_id=ANSWER,
        occurred_at=sample[0].shown_at,
        unit_type="impression",
        unit_id=UnitId("obd-random-all-0"),
        traffic=Traffic.LIVE,
        request_id=RequestId("obd-random-all-0"),
        surface="zozotown-all",
        policy_id="random",
        intended_policy_id="random",
        assignments=(event.assignments[0],),
        slots=(Slot(item_id=ItemId("14"), position=2, propensity=0.0125),),
        context=dict(zip([f"user_feature_{place}" for place in range(4)], sample[0].features, strict=True)),
    )
    assert dataclasses.asdict(event.assignments[0]) == dataclasses.asdict(Assignment("impression", "observed", exposed=True)) | {
        "experiment_id": "obd-all",
        "revision": 1,
        "arm": "random",
    }


def test_a_click_names_the_answer_that_it_belongs_to(sample: list[Impression]) -> None:
    clicked = next(row for row in sample if row.clicked and row.policy == "bts" and row.campaign == "men")
    answer, event = served(clicked, ANSWER), click(clicked, CLICK)

    assert event == Interaction(
        event_id=CLICK,
        occurred_at=clicked.shown_at,
        unit_type="impression",
        unit_id=answer.unit_id,
        traffic=Traffic.LIVE,
        surface="zozotown-men",
        item_id=answer.slots[0].item_id,
        kind="click",
        request_id=answer.request_id,
        position=clicked.position - 1,
    )


def test_every_impression_is_a_unit_of_its_own(sample: list[Impression]) -> None:
    assert len({served(row, ANSWER).unit_id for row in sample}) == 60_000


def test_events_of_the_log_survive_their_contract(sample: list[Impression]) -> None:
    codec = Codec(RecommendationServed)
    writer = parse_physical(contract("RecommendationServed").newest.schema)

    for row in sample[::6_000]:
        assert codec.decode(codec.encode(served(row, ANSWER), 7), writer) == served(row, ANSWER)


def test_each_campaign_is_an_observed_experiment_outside_every_layer(sample: list[Impression]) -> None:
    found = definitions(sample)

    assert [definition.experiment_id for definition in found] == ["obd-all", "obd-men", "obd-women"]
    for definition in found:
        assert definition.kind == "observed"
        assert [(arm.name, arm.weight) for arm in definition.arms] == [("random", 1), ("bts", 1)]
        assert definition.layer_id is None
        assert definition.effective_at == min(row.shown_at for row in sample)
