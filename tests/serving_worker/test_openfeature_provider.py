"""Other services get the same arms as serving does."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode

from schemas.events import Arm, Event, ExperimentDefinition, ExperimentStatus, RecommendationServed, UnitId
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import Snapshot, snapshot_of
from serving_worker.openfeature_provider import Surroundings, TailraceProvider
from tests.schemas.experiment_samples import DEFINITION, NOW

ARMS = (
    Arm("control", 1),
    Arm("treatment", 1, {"policy": "plackett_luce", "boost": "1.5", "wide": "true", "rows": "3", "extra": '{"a": [1]}'}),
)
EXPERIMENT = replace(DEFINITION, arms=ARMS)


class Fixed:
    def __init__(self, *definitions: ExperimentDefinition) -> None:
        self._snapshot = snapshot_of(definitions)

    def snapshot(self) -> Snapshot | None:
        return self._snapshot


@pytest.fixture
def emitted() -> list[Event]:
    return []


@pytest.fixture
def client(emitted: list[Event]) -> Iterator[OpenFeatureClient]:
    yield client_of(emitted, EXPERIMENT)
    api.shutdown()
    api.clear_providers()


def client_of(emitted: list[Event], *definitions: ExperimentDefinition) -> OpenFeatureClient:
    def emit(event: Event) -> bool:
        emitted.append(event)
        return True

    api.set_provider(TailraceProvider(Fixed(*definitions), Surroundings(emit, lambda: NOW, lambda: "an-id", "home")))
    return api.get_client()


def unit(number: int) -> EvaluationContext:
    return EvaluationContext(f"unit-{number}")


def in_arm(arm: str) -> EvaluationContext:
    snapshot = snapshot_of([EXPERIMENT])
    for number in range(100):
        asker = Asker("user", UnitId(f"unit-{number}"), "home", {})
        if decide(snapshot, asker, NOW, "popularity").assignments[0].arm == arm:
            return unit(number)
    raise AssertionError(arm)


def test_every_unit_has_the_arm_that_serving_gives_it(client: OpenFeatureClient) -> None:
    snapshot = snapshot_of([EXPERIMENT])
    for number in range(500):
        served = decide(snapshot, Asker("user", UnitId(f"unit-{number}"), "home", {}), NOW, "popularity")
        details = client.get_string_details("policy", "popularity", unit(number))
        assert (details.value, details.variant) == (served.policy_id, served.assignments[0].arm)
        assert details.flag_metadata["bucket"] == served.assignments[0].bucket


def test_each_evaluation_that_an_arm_decides_is_an_exposure_of_control_too(
    client: OpenFeatureClient, emitted: list[Event]
) -> None:
    arms = [client.get_string_details("policy", "popularity", unit(number)).variant for number in range(40)]
    assert {"control", "treatment"} == set(arms)
    served = [event for event in emitted if isinstance(event, RecommendationServed)]
    assert [event.assignments[0].arm for event in served] == arms
    assert all(event.assignments[0].exposed and event.slots == () and event.surface == "home" for event in served)
    assert {(event.assignments[0].experiment_id, event.assignments[0].revision) for event in served} == {("ab-1", 1)}
    assert [event.unit_id for event in served] == [f"unit-{number}" for number in range(40)]


def test_values_have_the_type_that_was_asked_for(client: OpenFeatureClient) -> None:
    treated = in_arm("treatment")
    assert client.get_float_value("boost", 1.0, treated) == 1.5
    assert client.get_boolean_value("wide", False, treated) is True
    assert client.get_integer_value("rows", 1, treated) == 3
    assert client.get_object_value("extra", {}, treated) == {"a": [1]}


@pytest.mark.parametrize("flag", ["policy", "boost"])
def test_another_type_is_an_error_and_the_default(client: OpenFeatureClient, emitted: list[Event], flag: str) -> None:
    details = client.get_integer_details(flag, 7, in_arm("treatment"))
    assert (details.value, details.error_code, details.variant) == (7, ErrorCode.TYPE_MISMATCH, None)
    assert emitted == []


def test_whoever_is_in_no_experiment_has_the_default_and_the_reason(emitted: list[Event]) -> None:
    client = client_of(emitted, replace(EXPERIMENT, status=ExperimentStatus.PAUSED))
    details = client.get_string_details("policy", "popularity", unit(1))
    assert (details.value, details.variant, details.reason) == ("popularity", None, "DISABLED")
    assert details.flag_metadata["reason"] == "not_running"
    elsewhere = client.get_string_details("policy", "popularity", EvaluationContext("unit-1", {"surface": "attic"}))
    assert elsewhere.value == "popularity"
    assert emitted == []


def test_a_blank_unit_is_told_so(client: OpenFeatureClient, emitted: list[Event]) -> None:
    details = client.get_string_details("policy", "popularity", EvaluationContext(""))
    assert (details.value, details.error_code) == ("popularity", ErrorCode.TARGETING_KEY_MISSING)
    assert emitted == []


def test_a_flag_that_no_experiment_decides_exposes_nobody(client: OpenFeatureClient, emitted: list[Event]) -> None:
    details = client.get_boolean_details("unheard_of", True, unit(1))
    assert (details.value, details.variant, details.reason) == (True, None, "DEFAULT")
    assert emitted == []
