"""What is emitted for an answer."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import count

import pytest
from prometheus_client import CollectorRegistry

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
from serving_worker.capacity import LAG_TICKS, Capacity, watch_lateness
from serving_worker.catalogue import Candidate, Candidates, Catalogue, by_item_id
from serving_worker.control import Control
from serving_worker.errors import Shed
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.definitions import Snapshot, snapshot_of
from serving_worker.isolation.pool import PolicyAnswer
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.metrics import ArmMetrics
from serving_worker.rankers.plackett_luce import PlackettLuce
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Query, Ranked, Ranker, Ranking
from serving_worker.recommend import POLICY_SHARE, Ask, Clock, Gates, PolicyRunner, Recommender, RecommenderSettings, Shelf
from serving_worker.tally import ArmTally
from tests.schemas.experiment_samples import DEFINITION, NOW
from tests.serving_worker.hostile_rankers import NUMBERS, WRONG_TYPES, Constant
from tests.waiting import eventually

CATALOGUE = Catalogue(
    {"home": Candidates((Candidate("a", 1.0, "editors", "front"), Candidate("b", 0.5), Candidate("c", 2.0)), "spring")}
)
ITEMS = by_item_id(CATALOGUE)
ASK = Ask(RequestId("0190c1de-0000-7000-8000-000000000000"), Asker("user", UnitId("unit-1"), "home", {}), 2, Traffic.LIVE, "s")


class Broken:
    version = "9"

    def rank(self, _candidates: Candidates, _query: Query, _draw: random.Random) -> Ranking:
        raise ZeroDivisionError


class Lying:
    version = "6"

    def rank(self, candidates: Candidates, _query: Query, _draw: random.Random) -> Ranking:
        return Ranking((Ranked(candidates.items[0], float("nan")), Ranked(candidates.items[1], 1.0)), 0.0)


class InWorker:
    """Policies without processes of their own: their failures are those of tests/serving_worker/test_isolation*.py."""

    def __init__(self, rankers: Mapping[str, Ranker]) -> None:
        self._arms = {name: Control(name, ranker, CATALOGUE, ITEMS) for name, ranker in rankers.items()}
        self.asked: list[Query] = []
        self.deadlines_s: list[float] = []

    async def rank(self, policy_id: str, query: Query, seed: str, deadline_s: float) -> PolicyAnswer:
        self.asked.append(query)
        self.deadlines_s.append(deadline_s)
        if policy_id not in self._arms:
            raise Unanswered(Degraded.UNKNOWN_POLICY, policy_id)
        return self._arms[policy_id].rank(query, seed)


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


def gates_of(emitted: list[Event], metrics: ArmMetrics, in_flight_max: int = 1) -> Gates:
    def emit(event: Event) -> bool:
        emitted.append(event)
        return True

    return Gates(Capacity(in_flight_max, late_us_max=1), emit, ArmTally(metrics), lambda _served, _query: None)


def recommender_of(
    gates: Gates,
    *definitions: ExperimentDefinition,
    context_keys: frozenset[str] = frozenset(),
    control: Ranker | None = None,
    policies: PolicyRunner | None = None,
) -> Recommender:
    ticks = count(1_000, 250)
    arms: dict[str, Ranker] = {"popularity": Popularity(), "plackett_luce": PlackettLuce(), "broken": Broken(), "lying": Lying()}
    return Recommender(
        Shelf(CATALOGUE, Control("popularity", control or Popularity(), CATALOGUE, ITEMS), policies or InWorker(arms)),
        Fixed(*definitions),
        RecommenderSettings(context_keys, seed=7, budget_us=10_000),
        gates,
        Clock(lambda: NOW, lambda: next(ticks)),
    )


def answered(
    ask: Ask,
    *definitions: ExperimentDefinition,
    context_keys: frozenset[str] = frozenset(),
    control: Ranker | None = None,
) -> RecommendationServed:
    emitted: list[Event] = []
    gates = gates_of(emitted, ArmMetrics(CollectorRegistry()))
    served = asyncio.run(recommender_of(gates, *definitions, context_keys=context_keys, control=control).recommend(ask))
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
        (only("lying"), "bad_number"),
    ],
)
def test_a_ranker_that_fails_costs_the_policy_and_not_the_answer(arms: tuple[Arm, ...], reason: str) -> None:
    served = answered(ASK, experiment("ab-1", arms))
    assert [slot.item_id for slot in served.slots] == ["a", "b"]
    assert (served.policy_id, served.intended_policy_id, served.degraded) == ("popularity", arms[0].parameters["policy"], reason)
    assert served.assignments[0].exposed
    assert {(slot.propensity, slot.source) for slot in served.slots} == {(1.0, "fallback")}
    assert (served.slate_log_propensity, served.policy_version) == (0.0, "1")


@pytest.mark.parametrize("control", [Broken(), Lying()])
def test_below_a_control_that_fails_stands_popularity_which_claims_no_propensities(control: Ranker) -> None:
    reason = "ranker_failed" if isinstance(control, Broken) else "bad_number"
    served = answered(ASK, control=control)
    assert (served.policy_id, served.degraded) == ("popularity", reason)
    assert [(slot.item_id, slot.propensity, slot.source) for slot in served.slots] == [(item, None, "fallback") for item in "ab"]
    assert served.slate_log_propensity is None
    assert answered(ASK, experiment("ab-1", only("no-such-policy")), control=control).degraded == "unknown_policy"


@pytest.mark.parametrize(("act", "said"), [*WRONG_TYPES.items(), ("raise_without_words", "its text raises")])
def test_a_control_that_gives_no_ranking_is_a_control_that_fails(caplog: pytest.LogCaptureFixture, act: str, said: str) -> None:
    control = Constant(act)
    served = answered(ASK, control=control)
    assert (served.policy_id, served.degraded) == ("popularity", "ranker_failed")
    assert [(slot.item_id, slot.propensity) for slot in served.slots] == [("a", None), ("b", None)]
    assert said in caplog.text
    assert answered(ASK, experiment("ab-1", only("no-such-policy")), control=control).degraded == "unknown_policy"


def test_a_control_that_refuses_without_a_word_has_refused() -> None:
    assert answered(ASK, control=Constant("refuse_without_reason")).degraded == "refused"


@pytest.mark.parametrize("act", NUMBERS)
def test_a_controls_numbers_may_be_of_any_kind(act: str) -> None:
    served = answered(ASK, control=Constant(act))
    assert served.degraded is None
    assert [(slot.item_id, slot.propensity, slot.score) for slot in served.slots] == [("b", 0.5, 9.0), ("a", 0.5, 9.0)]
    numbers = (served.slate_log_propensity, *(slot.propensity for slot in served.slots), *(slot.score for slot in served.slots))
    assert {type(number) for number in numbers} == {float}


def test_the_control_that_falls_in_does_not_draw_what_the_policy_drew() -> None:
    """It may have failed because of its draw: the control's chances would then not be those it logs."""
    arms = experiment("ab-1", only("broken"))
    asks = [replace(ASK, request_id=RequestId(f"request-{number}")) for number in range(50)]
    meant = [answered(ask, control=PlackettLuce()).slots for ask in asks]
    fallen = [answered(ask, arms, control=PlackettLuce()).slots for ask in asks]
    assert [[slot.item_id for slot in slots] for slots in meant] != [[slot.item_id for slot in slots] for slots in fallen]
    assert all(slot.propensity is not None for slots in fallen for slot in slots)


def test_a_ranker_is_given_the_whole_request_and_its_arms_parameters() -> None:
    policies = InWorker({"plackett_luce": PlackettLuce()})
    asked = replace(ASK, asker=replace(ASK.asker, context={"country": "fr"}))
    gates = gates_of([], ArmMetrics(CollectorRegistry()))
    arms = experiment("ab-1", only("plackett_luce", temperature="2"))
    asyncio.run(recommender_of(gates, arms, policies=policies).recommend(asked))
    [query] = policies.asked
    assert (query.surface, query.k, query.unit_id, query.session_id) == ("home", 2, "unit-1", "s")
    assert (query.context, query.parameters["temperature"]) == ({"country": "fr"}, "2")
    assert policies.deadlines_s == [pytest.approx((10_000 * POLICY_SHARE - 250) / 1e6)], "what is left of its share"


def test_an_arm_with_a_parameter_that_the_control_refuses_gets_the_control_as_it_is() -> None:
    definition = experiment("ab-1", only("popularity", temperature="-1"))
    served = answered(ASK, definition, control=PlackettLuce())
    assert (served.policy_id, served.degraded) == ("popularity", "bad_parameter")
    assert all(slot.propensity is not None for slot in served.slots), "not the last resort, which has none"


def test_what_is_beyond_the_worker_is_assigned_then_shed_and_counted_by_arm() -> None:
    registry, emitted = CollectorRegistry(), list[Event]()
    arms = experiment("ab-1", (Arm("slow", 10**6, {"policy": "slow"}), Arm("other", 1, {"policy": "slow"})))

    async def two_at_once() -> tuple[RecommendationServed, Shed]:
        release = asyncio.Event()

        class Slow:
            async def rank(self, _policy_id: str, _query: Query, _seed: str, _deadline_s: float) -> PolicyAnswer:
                await release.wait()
                raise Unanswered(Degraded.TIMEOUT, "slow")

        recommender = recommender_of(gates_of(emitted, ArmMetrics(registry)), arms, policies=Slow())
        first = asyncio.create_task(recommender.recommend(ASK))
        await asyncio.sleep(0)
        with pytest.raises(Shed) as shed:
            await recommender.recommend(ASK)
        release.set()
        return await first, shed.value

    served, shed = asyncio.run(two_at_once())
    assert emitted == [served]
    assert shed.retry_after_s >= 1
    labels = {"experiment_id": "ab-1", "arm": "slow"}
    assert registry.get_sample_value("tailrace_serving_worker_shed_requests_total", labels) == 1
    assert registry.get_sample_value("tailrace_serving_worker_exposures_total", labels) == 1
    degraded = registry.get_sample_value("tailrace_serving_worker_degraded_answers_total", {**labels, "reason": "timeout"})
    assert degraded == 1


def test_the_loops_lateness_is_measured_as_it_runs() -> None:
    capacity, clock = Capacity(in_flight_max=10, late_us_max=1_000), count(0, 1_000_000)

    def sheds() -> bool:
        try:
            with capacity.place():
                return False
        except Shed:
            return True

    async def body() -> None:
        watching = asyncio.create_task(watch_lateness(capacity, lambda: next(clock)))
        assert await asyncio.to_thread(eventually, sheds, 30)
        watching.cancel()

    asyncio.run(body())


def test_an_event_loop_that_stays_late_sheds_and_one_late_turn_does_not() -> None:
    capacity = Capacity(in_flight_max=10, late_us_max=1_000)
    for _ in range(LAG_TICKS - 1):
        capacity.note_lateness(5_000)
    with capacity.place():
        capacity.note_lateness(5_000)
    with pytest.raises(Shed), capacity.place():
        pass
    capacity.note_lateness(0)
    with capacity.place():
        assert capacity.in_flight == 1


def test_the_same_request_id_draws_the_same_answer() -> None:
    arms = experiment("ab-1", only("plackett_luce", temperature="3"))
    assert answered(ASK, arms) == answered(ASK, arms)
    others = [answered(replace(ASK, request_id=RequestId(f"request-{number}")), arms) for number in range(20)]
    assert len({tuple(slot.item_id for slot in served.slots) for served in others}) > 1


def test_only_allowed_context_is_logged() -> None:
    asked = replace(ASK, asker=replace(ASK.asker, context={"country": "fr", "email": "a@b"}))
    assert answered(asked, context_keys=frozenset({"country"})).context == {"country": "fr"}
    assert answered(asked).context == {}
