"""Other services get the same arms as serving does, and what they evaluate is told as exposures."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationOptions
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import ProviderStatus

from producers.main import now_us
from producers.testing import StubEmitter
from schemas.errors import ConfigurationError
from schemas.events import (
    Arm,
    BucketRange,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    Micros,
    RecommendationServed,
    Traffic,
    UnitId,
)
from serving_worker import openfeature_provider
from serving_worker.config import ExperimentSettings
from serving_worker.embedded_watch import EmbeddedWatch
from serving_worker.embedding import Tailrace
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import Decision, decide
from serving_worker.experiments.definitions import snapshot_of
from serving_worker.experiments.feed import experiments_of
from serving_worker.experiments.kill_file import kill
from serving_worker.experiments.snapshot_file import Contents, encode_body, write
from serving_worker.openfeature_provider import TailraceProvider
from tests.schemas.experiment_samples import DEFINITION, NOW
from tests.waiting import eventually

ARMS = (
    Arm("control", 1),
    Arm("treatment", 1, {"policy": "plackett_luce", "boost": "1.5", "wide": "true", "rows": "3", "extra": '{"a": [1]}'}),
)
EXPERIMENT = replace(DEFINITION, arms=ARMS)
HOLDBACK = replace(
    DEFINITION,
    experiment_id=ExperimentId("nobody"),
    kind=ExperimentKind.HOLDBACK,
    surfaces=(),
    bucket_ranges=(),
    layer_id=None,
    layer_salt=None,
    arm_salt="arm-0",
    arms=(Arm("held_out", 1), Arm("everybody_else", 1)),
)
AGE_S = 3_600


class Service:
    """One with a Tailrace over a file, and the SDK's client."""

    def __init__(self, file: Path, settings: ExperimentSettings | None = None) -> None:
        self.file, self.emitter = file, StubEmitter()
        watch = EmbeddedWatch(experiments_of(settings or ExperimentSettings(file)), 0.01)
        self.tailrace = Tailrace(self.emitter, watch, default_policy="popularity")
        self.client: OpenFeatureClient = api.get_client()

    def defines(self, *definitions: ExperimentDefinition) -> None:
        self.file.write_text(json.dumps([dataclasses.asdict(each) for each in definitions]), encoding="utf-8")

    def starts(self, *definitions: ExperimentDefinition) -> OpenFeatureClient:
        self.defines(*definitions)
        api.set_provider_and_wait(TailraceProvider.over(self.tailrace, "home"))
        return self.client

    def exposures(self) -> list[RecommendationServed]:
        return [event for event in self.emitter.events if isinstance(event, RecommendationServed)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "experiments.json")
    yield made
    api.clear_providers()
    made.tailrace.close()


@pytest.fixture
def client(service: Service) -> OpenFeatureClient:
    return service.starts(EXPERIMENT)


def unit(number: int) -> EvaluationContext:
    return EvaluationContext(f"unit-{number}")


def served(context: EvaluationContext, *definitions: ExperimentDefinition) -> Decision:
    """What serving decides for the same unit."""
    return decide(snapshot_of(definitions), Asker("user", UnitId(context.targeting_key or ""), "home", {}), NOW, "popularity")


def in_arm(arm: str) -> EvaluationContext:
    return next(unit(number) for number in range(100) if served(unit(number), EXPERIMENT).assignments[0].arm == arm)


def test_every_unit_has_the_arm_that_serving_gives_it(client: OpenFeatureClient) -> None:
    for number in range(500):
        decision = served(unit(number), EXPERIMENT)
        details = client.get_string_details("policy", "popularity", unit(number))
        assert (details.value, details.variant) == (decision.policy_id, decision.assignments[0].arm)
        assert details.flag_metadata["bucket"] == decision.assignments[0].bucket


def test_each_evaluation_that_an_arm_decides_is_an_exposure_of_control_too(client: OpenFeatureClient, service: Service) -> None:
    arms = [client.get_string_details("policy", "popularity", unit(number)).variant for number in range(40)]
    assert {"control", "treatment"} == set(arms)
    told = service.exposures()
    assert [event.assignments for event in told] == [served(unit(number), EXPERIMENT).assignments for number in range(40)]
    assert {(event.surface, event.policy_id, event.slots, event.traffic) for event in told} == {
        ("home", "flag:policy", (), Traffic.LIVE)
    }
    assert [event.unit_id for event in told] == [f"unit-{number}" for number in range(40)]
    assert len({event.request_id for event in told}) == 40


def test_values_have_the_type_that_was_asked_for(client: OpenFeatureClient) -> None:
    treated = in_arm("treatment")
    assert client.get_float_value("boost", 1.0, treated) == 1.5
    assert client.get_boolean_value("wide", False, treated) is True
    assert client.get_integer_value("rows", 1, treated) == 3
    assert client.get_object_value("extra", {}, treated) == {"a": [1]}


@pytest.mark.parametrize("flag", ["policy", "boost"])
def test_another_type_is_an_error_and_the_default(client: OpenFeatureClient, service: Service, flag: str) -> None:
    details = client.get_integer_details(flag, 7, in_arm("treatment"))
    assert (details.value, details.error_code, details.variant) == (7, ErrorCode.TYPE_MISMATCH, None)
    assert service.exposures() == []


def test_whoever_is_in_no_experiment_has_the_default_and_the_reason(service: Service) -> None:
    client = service.starts(replace(EXPERIMENT, status=ExperimentStatus.PAUSED))
    details = client.get_string_details("policy", "popularity", unit(1))
    assert (details.value, details.variant, details.reason) == ("popularity", None, "DISABLED")
    assert details.flag_metadata["reason"] == "not_running"
    elsewhere = client.get_string_details("policy", "popularity", EvaluationContext("unit-1", {"surface": "attic"}))
    assert elsewhere.value == "popularity"
    assert service.exposures() == []


ADS = replace(
    EXPERIMENT,
    experiment_id=ExperimentId("ab-ads"),
    arms=(Arm("control", 1), Arm("many", 1, {"ads": "many"})),
    layer_id="ads",
    layer_salt="ads",
    arm_salt="ads",
    bucket_ranges=(BucketRange(0, 1),),
)
"""Of a layer that stands before the flag's, and has room for everybody."""


def test_of_several_layers_the_flags_own_gives_the_reason(service: Service) -> None:
    kill(service.file.with_name("experiments.json.kill"), EXPERIMENT.experiment_id, "a test")
    client = service.starts(ADS, EXPERIMENT)
    details = client.get_string_details("policy", "popularity", unit(1))
    assert (details.value, details.reason) == ("popularity", "DISABLED")
    assert details.flag_metadata == {"reason": "killed", "layer_id": "ranking", "bucket": details.flag_metadata["bucket"]}
    assert service.exposures() == []


def test_whoever_is_in_another_experiment_of_the_flags_layer_has_no_other_layers_reason(service: Service) -> None:
    first, second = (replace(EXPERIMENT, bucket_ranges=(BucketRange(*ends),)) for ends in ((0, 500_000), (500_000, 1_000_000)))
    other = replace(second, experiment_id=ExperimentId("ab-2"), arms=(Arm("a", 1), Arm("b", 1, {"x": "1"})), arm_salt="arm-2")
    client = service.starts(ADS, first, other)
    elsewhere = next(unit(number) for number in range(100) if served(unit(number), other).assignments[0].arm is not None)
    details = client.get_string_details("policy", "popularity", elsewhere)
    assert (details.value, details.reason, details.flag_metadata) == ("popularity", "DEFAULT", {})


def test_a_blank_unit_is_told_so(client: OpenFeatureClient, service: Service) -> None:
    details = client.get_string_details("policy", "popularity", EvaluationContext(""))
    assert (details.value, details.error_code) == ("popularity", ErrorCode.TARGETING_KEY_MISSING)
    assert service.exposures() == []


@pytest.mark.parametrize("definitions", [(EXPERIMENT,), (EXPERIMENT, HOLDBACK)])
def test_a_flag_that_no_experiment_decides_exposes_nobody(
    service: Service, definitions: tuple[ExperimentDefinition, ...]
) -> None:
    client = service.starts(*definitions)
    values = {client.get_boolean_value("unheard_of", True, unit(number)) for number in range(40)}
    assert values == {True}
    assert service.exposures() == []


def test_a_holdback_is_exposed_on_both_sides_by_one_rule(service: Service) -> None:
    half = replace(EXPERIMENT, bucket_ranges=(replace(EXPERIMENT.bucket_ranges[0], end=500_000),))
    client = service.starts(half, HOLDBACK)
    for number in range(60):
        client.get_string_value("policy", "popularity", unit(number))
    decided = [served(unit(number), half, HOLDBACK).assignments for number in range(60)]
    assert [event.assignments for event in service.exposures()] == [
        tuple(assignment for assignment in assignments if assignment.exposed) for assignments in decided
    ]
    told = {tuple((str(one.experiment_id), one.arm) for one in event.assignments) for event in service.exposures()}
    assert told == {
        (("nobody", "held_out"),),
        (("nobody", "everybody_else"),),
        (("nobody", "everybody_else"), ("ab-1", "control")),
        (("nobody", "everybody_else"), ("ab-1", "treatment")),
    }


def test_a_holdback_is_exposed_only_where_an_experiment_could_decide(service: Service) -> None:
    client = service.starts(EXPERIMENT, HOLDBACK)
    for number in range(40):
        client.get_string_value("policy", "popularity", EvaluationContext(f"unit-{number}", {"surface": "attic"}))
    assert service.exposures() == []


def test_a_forced_arm_answers_and_its_traffic_says_so(client: OpenFeatureClient, service: Service) -> None:
    forced = EvaluationContext("unit-1", {"forced_arms": {"ab-1": "treatment"}, "traffic": "internal"})
    details = client.get_string_details("policy", "popularity", forced)
    assert (details.value, details.variant, details.reason) == ("plackett_luce", "treatment", "TARGETING_MATCH")
    [event] = service.exposures()
    assert (event.traffic, event.assignments[0].reason) == (Traffic.FORCED, "forced")


def test_traffic_is_what_the_context_says(client: OpenFeatureClient, service: Service) -> None:
    client.get_string_value("policy", "popularity", EvaluationContext("unit-1", {"traffic": "bot"}))
    assert [event.traffic for event in service.exposures()] == [Traffic.BOT]


@pytest.mark.parametrize("wrong", [{"traffic": "heavy"}, {"forced_arms": "treatment"}])
def test_a_context_that_says_nonsense_is_an_error_and_the_default(
    client: OpenFeatureClient, service: Service, wrong: dict[str, str]
) -> None:
    details = client.get_string_details("policy", "popularity", EvaluationContext("unit-1", wrong))
    assert (details.value, details.error_code) == ("popularity", ErrorCode.INVALID_CONTEXT)
    assert service.exposures() == []


class Naming(Hook):
    """Says late who asks."""

    def before(self, hook_context: HookContext, hints: HookHints) -> EvaluationContext:  # noqa: ARG002
        return EvaluationContext("unit-7")


def test_the_exposure_is_of_whom_the_evaluation_was_for_also_where_a_hook_has_named_it(
    client: OpenFeatureClient, service: Service
) -> None:
    client.get_string_value("policy", "popularity", flag_evaluation_options=FlagEvaluationOptions(hooks=[Naming()]))
    assert [event.unit_id for event in service.exposures()] == ["unit-7"]


class Heard:
    """Which of the provider's events came, until the providers are cleared."""

    def __init__(self) -> None:
        self.events: list[ProviderEvent] = []
        for event in ProviderEvent:
            api.add_handler(event, partial(self._hear, event))

    def _hear(self, event: ProviderEvent, details: EventDetails) -> None:
        if details.provider_name == "tailrace":
            self.events.append(event)


def test_a_change_of_the_definitions_is_followed_and_told(client: OpenFeatureClient, service: Service) -> None:
    heard = Heard()
    kill(service.file.with_name("experiments.json.kill"), EXPERIMENT.experiment_id, "a test")
    assert eventually(lambda: ProviderEvent.PROVIDER_CONFIGURATION_CHANGED in heard.events, 30)
    details = client.get_string_details("policy", "popularity", in_arm("treatment"))
    assert (details.value, details.reason) == ("popularity", "DISABLED")


def test_a_provider_is_ready_once_there_are_definitions_stale_when_they_are_too_old_and_ready_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openfeature_provider, "READY_S", 0.0)
    path = tmp_path / "snapshot"
    service = Service(path, ExperimentSettings(snapshot=path, age_s_max=AGE_S))
    heard = Heard()

    def publish(sequence: int, age_s: int) -> None:
        write(path, sequence, Micros(now_us() - age_s * 1_000_000), encode_body(Contents((EXPERIMENT,))))

    try:
        with pytest.raises(ProviderNotReadyError, match="No such file"):
            api.set_provider_and_wait(TailraceProvider.over(service.tailrace, "home"))
        early = service.client.get_string_details("policy", "popularity", in_arm("treatment"))
        assert (early.value, early.flag_metadata) == ("popularity", {"reason": "no_config"})
        publish(1, 0)
        assert eventually(lambda: service.client.get_provider_status() is ProviderStatus.READY, 30)
        assert service.client.get_string_value("policy", "popularity", in_arm("treatment")) == "plackett_luce"
        publish(2, AGE_S + 1)
        assert eventually(lambda: service.client.get_provider_status() is ProviderStatus.STALE, 30)
        details = service.client.get_string_details("policy", "popularity", in_arm("treatment"))
        assert (details.value, details.reason) == ("popularity", "STALE")
        publish(3, 0)
        assert eventually(lambda: heard.events.count(ProviderEvent.PROVIDER_READY) == 2, 30)
    finally:
        api.clear_providers()
        service.tailrace.close()


def test_a_provider_waits_for_a_hosts_first_definitions(tmp_path: Path) -> None:
    service = Service(tmp_path / "experiments.json")
    starting = threading.Thread(target=api.set_provider_and_wait, args=[TailraceProvider.over(service.tailrace, "home")])
    try:
        starting.start()
        service.defines(EXPERIMENT)
        starting.join(30)
        assert service.client.get_provider_status() is ProviderStatus.READY
    finally:
        api.clear_providers()
        service.tailrace.close()


def test_what_a_provider_has_opened_ends_with_it_and_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "experiments.json"
    file.write_text(json.dumps([dataclasses.asdict(EXPERIMENT)]), encoding="utf-8")
    provider = TailraceProvider.from_environment(
        {
            "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1",
            "TAILRACE_EXPERIMENTS_FILE": str(file),
            "TAILRACE_SPOOL_DIR": str(tmp_path / "spool"),
            "TAILRACE_EMITTER_DURABILITY": "write_ahead",
        },
        "home",
    )
    before = set(threading.enumerate())
    for _ in range(2):
        assert provider.resolve_string_details("policy", "popularity", unit(1)).error_code is ErrorCode.PROVIDER_NOT_READY
        provider.initialize(EvaluationContext())
        assert provider.resolve_string_details("policy", "popularity", in_arm("treatment")).value == "plackett_luce"
        assert "tailrace-experiments" in {thread.name for thread in set(threading.enumerate()) - before}
        provider.shutdown()
        assert eventually(lambda: set(threading.enumerate()) <= before, 30), "that of the registry ends by itself"


def test_a_provider_of_an_environment_that_is_wrong_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="TAILRACE_KAFKA_BOOTSTRAP"):
        TailraceProvider.from_environment({}, "home")
