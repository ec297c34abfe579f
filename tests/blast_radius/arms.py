"""An experiment whose second arm can be made to misbehave while the worker runs, and the units that are in the first."""

import json
from pathlib import Path

from schemas.events import Micros, UnitId
from schemas.experiment_files import parse_experiments
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import snapshot_of
from tests.blast_radius.load import unit_of
from tests.schemas.experiment_samples import DOCUMENT

POLICY = "hostile"
DEEDS = {
    "a policy sleeps": "sleep",
    "a policy raises": "raise_something",
    "a policy lies": "one twice",
    "a policy burns CPU in C": "burn_in_c",
    "a policy eats memory": "eat_memory",
}


def write_experiment(file: Path, act: str) -> None:
    """In one step, as a worker may look at any time. Without an act the policy behaves."""
    arms = [{"name": "control", "weight": 1}, {"name": POLICY, "weight": 1, "parameters": {"policy": POLICY, "act": act}}]
    new = file.with_suffix(".new")
    new.write_text(json.dumps([{**DOCUMENT, "arms": arms}]), encoding="utf-8")
    new.replace(file)


def control_places(file: Path, count: int) -> frozenset[int]:
    """Which of the first `count` requests are the control arm's."""
    snapshot, now = snapshot_of(parse_experiments(file.read_bytes(), str(file))), Micros(2**61)
    arms = [
        decide(snapshot, Asker("user", UnitId(unit_of(place)), "home", {}), now, "x").assignments[0].arm for place in range(count)
    ]
    return frozenset(place for place, arm in enumerate(arms) if arm == "control")
