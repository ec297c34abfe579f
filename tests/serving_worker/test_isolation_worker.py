"""A worker whose arms misbehave: what its users get, and what its events and metrics say. The policies' processes are real."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic_ns

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
    ShadowRanking,
    Traffic,
    UnitId,
)
from serving_worker.answering import Answering, Outlets, stock_of
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.definitions import Snapshot, snapshot_of
from serving_worker.isolation.config import PolicySettings
from serving_worker.isolation.limits import MIB, HostLimits, PoolLimits
from serving_worker.isolation.policies import UNWANTED_S_MAX
from serving_worker.metrics import WorkerMetrics
from serving_worker.rankers.plugins import BUILT_IN
from serving_worker.recommend import Ask, Clock, RecommenderSettings
from tests.schemas.experiment_samples import DEFINITION, NOW
from tests.serving_worker.child_processes import policy_processes
from tests.serving_worker.hostile_rankers import HOSTILE
from tests.waiting import eventually

BUDGET_S = 0.4
UNIT = Asker("user", UnitId("unit-1"), "home", {})
POOL = PoolLimits(processes=1, grace_s=0.0, host=HostLimits(memory_bytes_max=256 * MIB))
SETTINGS = PolicySettings(rankers={**BUILT_IN, "hostile": HOSTILE}, budget_us=int(BUDGET_S * 1e6), pool=POOL)


@dataclass
class Definitions:
    """Experiments that a test may change."""

    definitions: tuple[ExperimentDefinition, ...]
    killed: frozenset[ExperimentId] = frozenset()

    def snapshot(self) -> Snapshot | None:
        return snapshot_of(self.definitions, killed=self.killed)


@dataclass
class Worker:
    answering: Answering
    registry: CollectorRegistry
    experiments: Definitions
    emitted: list[Event]
    let_pass: Callable[[int], None]
    """Seconds, of the clock for durations."""
    asked: int = 0

    async def ask(self, surface: str = "home") -> RecommendationServed:
        self.asked += 1
        asker = replace(UNIT, surface=surface)
        return await self.answering.recommender.recommend(
            Ask(RequestId(f"request-{self.asked}"), asker, 3, Traffic.SIMULATED, None)
        )

    def shadows(self) -> list[ShadowRanking]:
        return [event for event in self.emitted if isinstance(event, ShadowRanking)]

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tailrace_serving_worker_{name}", labels) or 0.0

    def processes(self, use: str = "live", policy_id: str = "hostile") -> float:
        return self.figure("policy_processes", use=use, policy_id=policy_id)


def both_arms(act: str, policy: str = "hostile", surface: str = "home", **parameters: str) -> ExperimentDefinition:
    """Two arms that do the same, so that it does not matter which one is drawn."""
    arms = tuple(Arm(name, 1, {"policy": policy, "act": act, "arm": name, **parameters}) for name in ("one", "other"))
    return replace(
        DEFINITION,
        experiment_id=ExperimentId(f"on-{surface}"),
        layer_id=surface,
        layer_salt=f"layer-{surface}",
        surfaces=(surface,),
        arms=arms,
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    catalogue = tmp_path / "catalogue.json"
    surface = {"items": [{"item_id": item} for item in "abcd"]}
    catalogue.write_text(json.dumps({"surfaces": {"home": surface, "search": surface}}), encoding="utf-8")

    def run(
        body: Callable[[Worker], Awaitable[None]], *definitions: ExperimentDefinition, settings: PolicySettings = SETTINGS
    ) -> None:
        async def at_work() -> None:
            registry, emitted, passed_us = CollectorRegistry(), list[Event](), 0

            def let_pass(seconds: int) -> None:
                nonlocal passed_us
                passed_us += seconds * 1_000_000

            def emit(event: Event) -> bool:
                emitted.append(event)
                return True

            outlets = Outlets(
                emit,
                WorkerMetrics(registry),
                Clock(lambda: NOW, lambda: monotonic_ns() // 1_000 + passed_us),
                os.environ,
            )
            stock = stock_of(catalogue, "popularity", settings.rankers)
            told = RecommenderSettings(frozenset(), 7, settings.budget_us)
            experiments = Definitions(definitions)
            answering = Answering(stock, experiments, told, settings, outlets)
            async with answering.at_work():
                await body(Worker(answering, registry, experiments, emitted, let_pass))

        asyncio.run(at_work())
        assert policy_processes() == []

    return run


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("sleep", "timeout"),
        ("burn_in_c", "timeout"),
        ("eat_memory", "memory"),
        ("quit_at_once", "crashed"),
        ("raise_something", "ranker_failed"),
        ("one twice", "repeated_item"),
        ("a nan score", "bad_number"),
    ],
)
def test_an_arm_that_misbehaves_costs_its_policy_and_not_the_answer(run: Callable[..., None], act: str, reason: str) -> None:
    async def body(worker: Worker) -> None:
        served = await worker.ask()
        assert worker.emitted == [served]
        assert [slot.item_id for slot in served.slots] == ["a", "b", "c"]
        assert (served.policy_id, served.intended_policy_id, served.degraded) == ("popularity", "hostile", reason)
        [assignment] = [one for one in served.assignments if one.exposed]
        arm = {"experiment_id": str(assignment.experiment_id), "arm": str(assignment.arm)}
        assert worker.figure("degraded_answers_total", **arm, reason=reason) == 1
        assert worker.figure("exposures_total", **arm) == 1

    # memory is eaten and a process is seen to have ended in less than this, on a machine however slow
    patient = replace(SETTINGS, budget_us=60_000_000) if reason != "timeout" else SETTINGS
    run(body, both_arms(act), settings=patient)


def test_other_arms_are_answered_by_their_own_policies_while_one_overruns(run: Callable[..., None]) -> None:
    async def body(worker: Worker) -> None:
        overrunning = asyncio.create_task(worker.ask())
        await asyncio.sleep(0)
        others = [await worker.ask("search") for _ in range(20)]
        assert not overrunning.done()
        assert {served.degraded for served in others} == {None}
        assert {(served.policy_id, served.policy_version) for served in others} == {("plackett_luce", "1")}
        assert (await overrunning).degraded == "timeout"

    # the deadline of the burning arm is far beyond twenty answers
    run(body, both_arms("burn_in_c"), both_arms("", "plackett_luce", "search"), settings=replace(SETTINGS, budget_us=5_000_000))


def test_a_good_policy_answers_with_its_own_scores_and_version(run: Callable[..., None]) -> None:
    async def body(worker: Worker) -> None:
        served = await worker.ask()
        assert [(slot.item_id, slot.score, slot.propensity) for slot in served.slots] == [(item, 9.0, 0.5) for item in "cba"]
        assert (served.policy_id, served.policy_version, served.degraded) == ("hostile", "hostile-1", None)
        assert worker.processes() == 1

    run(body, both_arms(""), settings=replace(SETTINGS, budget_us=60_000_000))


def test_policies_that_no_experiment_names_have_no_process_and_the_control_has_none(run: Callable[..., None]) -> None:
    async def body(worker: Worker) -> None:
        assert (await worker.ask()).policy_id == "popularity"
        assert policy_processes() == []

    run(body, both_arms("", "popularity"))


def test_a_policy_is_up_before_the_first_request_of_a_new_experiment(run: Callable[..., None]) -> None:
    async def body(worker: Worker) -> None:
        worker.experiments.definitions = (both_arms(""),)
        await wait_for(lambda: worker.processes() == 1)
        assert (await worker.ask()).degraded is None

    run(body, settings=replace(SETTINGS, budget_us=60_000_000))


@pytest.mark.parametrize("ending", ["ended", "killed", "gone"])
def test_a_policy_that_no_experiment_names_any_more_has_no_process(run: Callable[..., None], ending: str) -> None:
    async def body(worker: Worker) -> None:
        assert (worker.processes(), worker.processes("live", "plackett_luce")) == (1, 1)
        experiments, named = worker.experiments, both_arms("")
        if ending == "killed":
            experiments.killed = frozenset({named.experiment_id})
        elif ending == "ended":
            ended = replace(named, revision=named.revision + 1, status=ExperimentStatus.ENDED)
            experiments.definitions = (*experiments.definitions, ended)
        else:
            experiments.definitions = experiments.definitions[1:]
        worker.let_pass(UNWANTED_S_MAX + 1)
        await wait_for(lambda: len(policy_processes()) == 1)
        assert (worker.processes(), worker.processes("live", "plackett_luce")) == (0, 1)

    run(body, both_arms(""), both_arms("", "plackett_luce", "search"), settings=replace(SETTINGS, budget_us=60_000_000))


def test_a_candidate_ranks_in_the_shadow_and_shows_nothing(run: Callable[..., None]) -> None:
    async def body(worker: Worker) -> None:
        await wait_for(lambda: worker.processes("shadow") == 1)
        served = await worker.ask()
        assert worker.shadows() == [], "nothing of it comes before the answer"
        await wait_for(lambda: bool(worker.shadows()))
        [shadow] = worker.shadows()
        assert (served.policy_id, [slot.item_id for slot in served.slots]) == ("popularity", ["a", "b", "c"])
        assert (shadow.policy_id, shadow.policy_version, shadow.live_policy_id) == ("hostile", "hostile-1", "popularity")
        assert [(slot.item_id, slot.propensity, slot.score) for slot in shadow.slots] == [(item, 0.5, 9.0) for item in "cba"]
        assert (shadow.slate_log_propensity, shadow.failed) == (-0.5, None)
        assert (shadow.request_id, shadow.unit_id, shadow.surface) == (served.request_id, served.unit_id, "home")
        assert worker.figure("shadow_rankings_total", policy_id="hostile", outcome="ranked") == 1
        assert worker.processes("live") == 0

    run(body, settings=replace(SETTINGS, shadow={"hostile": 1.0}))


def test_a_candidate_that_fails_says_so_and_one_without_a_process_is_dropped_and_counted(run: Callable[..., None]) -> None:
    async def body(worker: Worker) -> None:
        await wait_for(lambda: worker.processes("shadow", "hostile") == 1)
        await worker.ask()
        await wait_for(lambda: bool(worker.shadows()))
        [shadow] = worker.shadows()
        assert (shadow.policy_id, shadow.failed, shadow.slots) == ("hostile", "refused", ())
        assert worker.figure("shadow_rankings_total", policy_id="hostile", outcome="failed") == 1
        assert worker.figure("shadow_rankings_total", policy_id="never", outcome="dropped") == 1

    never = "tests.serving_worker.hostile_rankers:NeverReady"
    rankers = {**SETTINGS.rankers, "hostile": "tests.serving_worker.hostile_rankers:Refusing", "never": never}
    run(body, settings=replace(SETTINGS, rankers=rankers, shadow={"hostile": 1.0, "never": 1.0}))


async def wait_for(holds: Callable[[], bool]) -> None:
    """Beside the loop, which goes on."""
    assert await asyncio.to_thread(eventually, holds, 30)
