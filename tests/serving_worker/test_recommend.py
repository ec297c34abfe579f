"""What is emitted for an answer."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from schemas.events import (
    Arm,
    Event,
    ExperimentDefinition,
    ExperimentId,
    ExperimentStatus,
    RecommendationServed,
    RequestId,
    Traffic,
    UnitId,
)
from serving_worker.assignment import Asker
from serving_worker.catalogue import Candidate, Candidates, Catalogue
from serving_worker.experiments import Snapshot, snapshot_of
from serving_worker.rankers.plackett_luce import PlackettLuce
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Ranker, Ranking
from serving_worker.recommend import Ask, Clock, Recommender, RecommenderSettings, Shelf
from tests.schemas.experiment_samples import DEFINITION, NOW

CATALOGUE = Catalogue(
    {"home": Candidates((Candidate("a", 1.0, "editors", "front"), Candidate("b", 0.5), Candidate("c", 2.0)), "spring")}
)
ASK = Ask(RequestId("0190c1de-0000-7000-8000-000000000000"), Asker("user", UnitId("unit-1"), "home", {}), 2, Traffic.LIVE, "s")


class Broken:
    version = "9"

    def rank(self, _candidates: Candidates, _k: int, _parameters: Mapping[str, str], _draw: random.Random) -> Ranking:
        raise ZeroDivisionError


class Fixed:
    def __init__(self, *definitions: ExperimentDefinition) -> None:
        self._snapshot = snapshot_of(definitions)

    def snapshot(self) -> Snapshot | None:
        return self._snapshot


def experiment(name: str, arms: tuple[Arm, ...], layer: str = "ranking") -> ExperimentDefinition:
    return replace(
        DEFINITION,
        experiment_id=ExperimentId(name),
        arms=arms,
        layer_id=layer,
        layer_salt=f"layer-{layer}",
        arm_salt=f"arm-{name}",
    )


def answered(ask: Ask, *definitions: ExperimentDefinition, context_keys: frozenset[str] = frozenset()) -> RecommendationServed:
    emitted: list[Event] = []
    rankers: dict[str, Ranker] = {"popularity": Popularity(), "plackett_luce": PlackettLuce(), "broken": Broken()}
    ticks = iter((1_000, 1_250))

    def emit(event: Event) -> bool:
        emitted.append(event)
        return True

    recommender = Recommender(
        Shelf(CATALOGUE, rankers),
        Fixed(*definitions),
        RecommenderSettings("popularity", context_keys, seed=7),
        emit,
        Clock(lambda: NOW, lambda: next(ticks)),
    )
    served = asyncio.run(recommender.recommend(ask))
    assert emitted == [served]
    return served


def only(policy: str, **parameters: str) -> tuple[Arm, ...]:
    """Two arms that do the same, so that it does not matter which one is drawn."""
    return tuple(Arm(name, 1, {"policy": policy, **parameters}) for name in ("one", "other"))


def test_the_event_holds_the_whole_answer() -> None:
    served = answered(ASK)
    assert {str(served.request_id), str(served.event_id)} == {ASK.request_id}
    assert (str(served.unit_id), served.session_id) == ("unit-1", "s")
    assert (served.policy_id, served.intended_policy_id, served.degraded) == ("popularity", "popularity", None)
    assert [(slot.item_id, slot.position, slot.score) for slot in served.slots] == [("a", 0, 1.0), ("b", 1, 0.5)]
    assert [slot.propensity for slot in served.slots] == [1.0, 1.0]
    assert (served.slots[0].source, served.slots[0].team) == ("editors", "front")
    assert (served.candidate_set_id, served.candidate_count, served.slate_log_propensity) == ("spring", 3, 0.0)
    assert (served.occurred_at, served.latency_us, served.assignments) == (NOW, 250, ())


def test_the_arm_whose_policy_answers_is_exposed() -> None:
    served = answered(ASK, experiment("ab-1", only("plackett_luce", temperature="0.5")))
    assert (served.policy_id, served.intended_policy_id) == ("plackett_luce", "plackett_luce")
    assert [(assignment.experiment_id, assignment.exposed) for assignment in served.assignments] == [("ab-1", True)]
    assert all(slot.propensity is not None and 0 < slot.propensity < 1 for slot in served.slots)


def test_a_control_that_names_no_policy_keeps_the_default_and_is_exposed() -> None:
    arms = (Arm("control", 10**6, {}), Arm("treatment", 1, {"policy": "broken"}))
    served = answered(ASK, experiment("ab-1", arms))
    assert (served.policy_id, served.assignments[0].arm, served.assignments[0].exposed) == ("popularity", "control", True)


def test_an_arm_of_another_layer_that_sets_another_parameter_is_exposed_too() -> None:
    arms = tuple(Arm(name, 1, {"colour": name}) for name in ("red", "blue"))
    served = answered(ASK, experiment("colours", arms, "colours"), experiment("ab-1", only("plackett_luce")))
    assert {assignment.experiment_id: assignment.exposed for assignment in served.assignments} == {"colours": True, "ab-1": True}


def test_every_layer_says_once_why_the_unit_is_in_nothing() -> None:
    paused = replace(experiment("ab-2", only("popularity"), "paused"), status=ExperimentStatus.PAUSED)
    elsewhere = replace(experiment("ab-3", only("popularity"), "search"), surfaces=("search",))
    served = answered(ASK, paused, elsewhere)
    assert [(assignment.layer_id, assignment.reason, assignment.experiment_id) for assignment in served.assignments] == [
        ("paused", "not_running", None),
        ("search", "other_surface", None),
    ]


@pytest.mark.parametrize(
    ("arms", "reason"),
    [
        (only("broken"), "ranker_failed"),
        (only("no-such-policy"), "unknown_policy"),
        (only("plackett_luce", temperature="-1"), "bad_parameter"),
    ],
)
def test_a_ranker_that_fails_costs_the_policy_and_not_the_answer(arms: tuple[Arm, ...], reason: str) -> None:
    served = answered(ASK, experiment("ab-1", arms))
    assert [slot.item_id for slot in served.slots] == ["a", "b"]
    assert (served.policy_id, served.intended_policy_id, served.degraded) == ("popularity", arms[0].parameters["policy"], reason)
    assert served.assignments[0].exposed
    assert {(slot.propensity, slot.source) for slot in served.slots} == {(None, "fallback")}
    assert served.slate_log_propensity is None


def test_the_same_request_id_draws_the_same_answer() -> None:
    arms = experiment("ab-1", only("plackett_luce", temperature="3"))
    assert answered(ASK, arms) == answered(ASK, arms)
    others = [answered(replace(ASK, request_id=RequestId(f"request-{number}")), arms) for number in range(20)]
    assert len({tuple(slot.item_id for slot in served.slots) for served in others}) > 1


def test_only_allowed_context_is_logged() -> None:
    asked = replace(ASK, asker=replace(ASK.asker, context={"country": "fr", "email": "a@b"}))
    assert answered(asked, context_keys=frozenset({"country"})).context == {"country": "fr"}
    assert answered(asked).context == {}
