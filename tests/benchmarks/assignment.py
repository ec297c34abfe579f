"""What a decision costs the request: 50 experiments, in few layers and in many, with and without a holdback."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.events import Arm, BucketRange, EligibilityRule, ExperimentDefinition, ExperimentId, ExperimentKind, UnitId
from schemas.experiment_rules import BUCKETS
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import Snapshot, snapshot_of
from tests.benchmarks.figures import percentile
from tests.benchmarks.ground import Ground
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_most
from tests.schemas.experiment_samples import DEFINITION, NOW

EXPERIMENTS = 50
LAYERS = (1, 3, 5, 10, 25)
JUDGED = 5
"""Layers of the case that the target is for."""
DECISIONS, QUICK_DECISIONS = 20_000, 500
TURNS = 5
TARGET_US = 20.0
_HOW = f"""Microseconds a decision, on one core: the median of {TURNS} turns, taken in turn, and the 99th percentile of single
decisions (two readings of the clock are in those). {EXPERIMENTS} experiments share out all buckets of so many layers, each with
three arms and a rule of eligibility that holds; a holdback stands above them. Units are new each time. A snapshot is made when
definitions change, not in a request."""


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    """By number of layers."""
    ground.say("assignment")
    decisions = QUICK_DECISIONS if asked.quick else DECISIONS
    made = {layers: _timed_snapshot(_definitions(layers)) for layers in LAYERS}
    turns: dict[int, list[float]] = {layers: [] for layers in LAYERS}
    singles: dict[int, list[float]] = {layers: [] for layers in LAYERS}
    for turn in range(TURNS):
        for layers, (snapshot, _) in made.items():
            mean_us, single_us = _decisions_us(snapshot, decisions, turn)
            turns[layers].append(mean_us)
            singles[layers].extend(single_us)
    return {
        str(layers): {
            "decision_us": statistics.median(turns[layers]),
            "p99_us": percentile(singles[layers], 99),
            "snapshot_ms": made[layers][1] * 1_000,
        }
        for layers in LAYERS
    }


def present(measured: Mapping[str, Any]) -> Section:
    rows = [
        (f"{layers} layers", f"{found['decision_us']:.1f}", f"{found['p99_us']:.1f}", f"{found['snapshot_ms']:.1f}")
        for layers, found in measured.items()
    ]
    table = Table((f"{EXPERIMENTS} experiments in", "µs a decision", "p99 µs", "ms a snapshot"), rows)
    found = measured[str(JUDGED)]["decision_us"]
    target = at_most(f"a decision over {EXPERIMENTS} experiments in {JUDGED} layers", TARGET_US, found, "µs")
    return Section("Assigning a unit", _HOW, [table], [target])


def _decisions_us(snapshot: Snapshot, decisions: int, turn: int) -> tuple[float, list[float]]:
    """The mean of an undisturbed loop, and each of a second loop by itself."""
    context = {"country": "de"}
    askers = [Asker("user", UnitId(f"unit-{turn}-{number}"), "home", context) for number in range(decisions)]
    started = time.perf_counter()
    for asker in askers:
        decide(snapshot, asker, NOW, "popularity")
    mean_us = (time.perf_counter() - started) / decisions * 1e6
    singles = []
    for asker in askers:
        began = time.perf_counter()
        decide(snapshot, asker, NOW, "popularity")
        singles.append((time.perf_counter() - began) * 1e6)
    return mean_us, singles


def _timed_snapshot(definitions: list[ExperimentDefinition]) -> tuple[Snapshot, float]:
    started = time.perf_counter()
    return snapshot_of(definitions), time.perf_counter() - started


def _definitions(layers: int) -> list[ExperimentDefinition]:
    a_layer = EXPERIMENTS // layers
    spans = [BUCKETS * place // a_layer for place in range(a_layer + 1)]
    placed = [
        replace(
            DEFINITION,
            experiment_id=ExperimentId(f"experiment-{layer}-{place}"),
            arms=tuple(Arm(str(arm), 1 + arm, {f"parameter-{layer}": str(arm)}) for arm in range(3)),
            eligibility=(EligibilityRule("country", ("de", "fr")),),
            bucket_ranges=(BucketRange(spans[place], spans[place + 1]),),
            layer_id=f"layer-{layer}",
            layer_salt=f"layer-{layer}",
            arm_salt=f"arms-{layer}-{place}",
        )
        for layer in range(layers)
        for place in range(a_layer)
    ]
    return [_holdback(), *placed]


def _holdback() -> ExperimentDefinition:
    arms = (Arm("held", 1), Arm("open", 99))
    nowhere = {"surfaces": (), "bucket_ranges": (), "layer_id": None, "layer_salt": None}
    changes: dict[str, Any] = {"kind": ExperimentKind.HOLDBACK, "arms": arms, "arm_salt": "held", **nowhere}
    return replace(DEFINITION, experiment_id=ExperimentId("held"), **changes)
