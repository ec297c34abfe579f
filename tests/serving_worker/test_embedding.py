"""The examples of docs/embedding.md, run as they stand, and what they emit."""

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from openfeature import api
from starlette.testclient import TestClient

from producers.emitter import Emitter, EmitterStatus
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from producers.testing import StubEmitter
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import Interaction, ItemId, RecommendationServed, Slot, Traffic, UnitId
from serving_worker import embedded_watch
from serving_worker.config import ExperimentSettings
from serving_worker.embedded_watch import EmbeddedWatch
from serving_worker.embedding import EmbeddingSettings, Served, Tailrace
from serving_worker.experiments.feed import experiments_of
from tests.producers.event_samples import KnownSchemaIds
from tests.schemas.experiment_samples import DOCUMENT
from tests.waiting import eventually

RECOMMENDER, FLAGS = Path("docs/examples/fastapi_recommender.py"), Path("docs/examples/openfeature_flags.py")
LIMIT_S = 60.0
NOWHERE = {"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"}
NEWEST = {"arms": [{"name": "control", "weight": 1}, {"name": "newest", "weight": 1, "parameters": {"policy": "newest"}}]}


class Embedded:
    def __init__(self, file: Path) -> None:
        self.transport = MemoryTransport()
        self.emitter = Emitter(self.transport, KnownSchemaIds(), now_us=now_us, new_id=new_id)
        self.watch = EmbeddedWatch(experiments_of(ExperimentSettings(file)), 0.01)
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


@pytest.fixture
def example(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], ModuleType]:
    """A file of the documentation as a module, with an emitter into memory."""

    def of(_settings: EmbeddingSettings) -> Tailrace:
        return embedded.tailrace

    def loaded(path: Path) -> ModuleType:
        monkeypatch.setattr(Tailrace, "of", of)
        for name, value in NOWHERE.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return loaded


@pytest.mark.parametrize("path", [RECOMMENDER, FLAGS])
def test_the_page_shows_the_examples_as_they_are_run(path: Path) -> None:
    assert path.read_text(encoding="utf-8") in Path("docs/embedding.md").read_text(encoding="utf-8")


def test_the_recommender_answers_by_the_arm_and_emits_what_it_showed(
    embedded: Embedded, example: Callable[[Path], ModuleType]
) -> None:
    with TestClient(example(RECOMMENDER).app) as client:
        answers = {f"unit-{number}": client.get(f"/home/unit-{number}").json() for number in range(40)}
    served = embedded.served()
    assert {tuple(items) for items in answers.values()} == {("a", "b", "c"), ("c", "b", "a")}
    assert {event.unit_id: [slot.item_id for slot in event.slots] for event in served} == answers
    arms = {event.assignments[0].arm: event.intended_policy_id for event in served}
    assert arms == {"control": "popularity", "newest": "newest"}
    assert all(event.assignments[0].exposed and event.degraded is None for event in served)


def test_the_flags_are_of_the_arm_and_each_is_an_exposure(
    embedded: Embedded, experiments: Path, example: Callable[[Path], ModuleType]
) -> None:
    arms = [{"name": "control", "weight": 1}, {"name": "grid", "weight": 1, "parameters": {"layout": "grid"}}]
    norwegians = {"eligibility": [{"key": "country", "values": ["NO"]}]}
    experiments.write_text(json.dumps([{**DOCUMENT, "arms": arms, **norwegians}]), encoding="utf-8")
    module = example(FLAGS)
    try:
        assert eventually(lambda: {module.layout(f"unit-{number}", "NO") for number in range(40)} == {"list", "grid"}, 30)
        assert {module.layout(f"unit-{number}", "SE") for number in range(40)} == {"list"}
    finally:
        api.clear_providers()
    told = {(event.policy_id, event.assignments[0].arm, event.traffic) for event in embedded.served()}
    assert told == {("flag:layout", "control", "live"), ("flag:layout", "grid", "live")}


@pytest.mark.parametrize("arm", ["control", "newest"])
def test_a_forced_arm_answers_and_its_event_says_that_it_was_forced(embedded: Embedded, arm: str) -> None:
    turns = [embedded.tailrace.turn(f"unit-{number}", "home", forced={"ab-1": arm}) for number in range(10)]
    for turn in turns:
        embedded.tailrace.served(turn, ["a"], Served(traffic=Traffic.INTERNAL))
    assert {(turn.policy_id, turn.decision.assignments[0].arm) for turn in turns} == {
        ("newest" if arm == "newest" else "popularity", arm)
    }
    assert {event.traffic for event in embedded.served()} == {Traffic.FORCED}


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


class Telling(StubEmitter):
    """Tells that it has been closed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = threading.Event()

    def close(self, timeout_s: float) -> EmitterStatus:
        self.flushed.set()
        return super().close(timeout_s)


def test_events_are_sent_before_anybody_waits_for_a_look_that_hangs(experiments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_watch, "END_S", LIMIT_S)
    emitter, hangs, flushed_first = Telling(), threading.Event(), []

    def listener() -> None:
        hangs.set()
        flushed_first.append(emitter.flushed.wait(LIMIT_S / 10))

    watch = EmbeddedWatch(experiments_of(ExperimentSettings(experiments)), 0.01)
    tailrace = Tailrace(emitter, watch, default_policy="popularity")
    with watch.telling(listener):
        assert hangs.wait(LIMIT_S)
        tailrace.close(0)
    assert flushed_first == [True]


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
