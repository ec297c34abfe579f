"""The ten lines of docs/embedding.md, run as they stand, and what they emit."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from producers.emitter import Emitter
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import Interaction, ItemId, RecommendationServed, Slot, Traffic, UnitId
from serving_worker.config import ExperimentSettings
from serving_worker.embedding import Served, Tailrace
from serving_worker.experiments.feed import experiments_of
from serving_worker.watch import Watch
from tests.producers.event_samples import KnownSchemaIds
from tests.schemas.experiment_samples import DOCUMENT
from tests.waiting import eventually

EXAMPLE = Path("docs/examples/fastapi_recommender.py")
NEWEST = {"arms": [{"name": "control", "weight": 1}, {"name": "newest", "weight": 1, "parameters": {"policy": "newest"}}]}


class Embedded:
    def __init__(self, file: Path) -> None:
        self.transport = MemoryTransport()
        self.emitter = Emitter(self.transport, KnownSchemaIds(), now_us=now_us, new_id=new_id)
        self.watch = Watch(experiments_of(ExperimentSettings(file)), 0.01)
        self.tailrace = Tailrace(self.emitter, self.watch, default_policy="popularity")

    def served(self) -> list[RecommendationServed]:
        self.tailrace.close()
        codec, writer = Codec(RecommendationServed), parse_physical(contract("RecommendationServed").newest.schema)
        records = [record for record in self.transport.records if record.topic == "tailrace.recommendations"]
        return [codec.decode(record.value, writer) for record in records]


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    file = tmp_path / "experiments.json"
    file.write_text(json.dumps([{**DOCUMENT, **NEWEST}]), encoding="utf-8")
    return file


@pytest.fixture
def embedded(experiments: Path) -> Iterator[Embedded]:
    made = Embedded(experiments)
    yield made
    made.tailrace.close()


def example(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file of the documentation, with an emitter into memory."""

    def from_environment(_variables: Mapping[str, str]) -> Tailrace:
        return embedded.tailrace

    monkeypatch.setattr(Tailrace, "from_environment", from_environment)
    spec = importlib.util.spec_from_file_location("fastapi_recommender", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_example_as_it_is_run() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") in Path("docs/embedding.md").read_text(encoding="utf-8")


def test_the_example_answers_by_the_arm_and_emits_what_it_showed(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(example(embedded, monkeypatch).app) as client:
        answers = {f"unit-{number}": client.get(f"/home/unit-{number}").json() for number in range(40)}
    served = embedded.served()
    assert {tuple(items) for items in answers.values()} == {("a", "b", "c"), ("c", "b", "a")}
    assert {event.unit_id: [slot.item_id for slot in event.slots] for event in served} == answers
    arms = {event.assignments[0].arm: event.intended_policy_id for event in served}
    assert arms == {"control": "popularity", "newest": "newest"}
    assert all(event.assignments[0].exposed and event.degraded is None for event in served)


def test_what_answered_instead_is_told_and_the_intention_kept(embedded: Embedded) -> None:
    turn = embedded.tailrace.turn("unit-1", "home")
    told = Served(policy_id="popularity", degraded="timeout", candidate_count=9, traffic=Traffic.INTERNAL)
    assert embedded.tailrace.served(turn, [Slot(ItemId("a"), 0, 0.5, 0.25)], told)
    [event] = embedded.served()
    assert (event.request_id, event.policy_id, event.intended_policy_id) == (turn.request_id, "popularity", turn.policy_id)
    assert (event.degraded, event.candidate_count, event.traffic) == ("timeout", 9, "internal")
    assert event.slots[0].propensity == 0.25


def test_a_change_of_the_experiments_is_followed_and_a_bad_one_is_not_but_said(
    embedded: Embedded, experiments: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policies = {embedded.tailrace.turn(f"unit-{number}", "home").policy_id for number in range(40)}
    assert policies == {"popularity", "newest"}
    experiments.write_text("[", encoding="utf-8")
    assert eventually(lambda: f"experiments stay as they were where they are wrong: {experiments}" in caplog.text, 5)
    assert {embedded.tailrace.turn(f"unit-{number}", "home").policy_id for number in range(40)} == policies
    experiments.write_text("[]", encoding="utf-8")
    assert eventually(lambda: embedded.tailrace.turn("unit-1", "home").decision.assignments == (), 5)


def test_interactions_and_blank_units_go_the_same_way(embedded: Embedded) -> None:
    click = Interaction(
        occurred_at=now_us(),
        unit_type="user",
        unit_id=UnitId(""),
        traffic=Traffic.LIVE,
        surface="home",
        item_id=ItemId("a"),
        kind="click",
    )
    turn = embedded.tailrace.turn("", "home")
    assert turn.policy_id == "popularity"
    assert [assignment.reason for assignment in turn.decision.assignments] == ["no_unit"]
    assert embedded.tailrace.interaction(click)
    embedded.tailrace.close()
    assert sum(topic.acknowledged for topic in embedded.emitter.status().topics) == 1
