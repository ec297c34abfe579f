"""Which policy is to answer a request: every layer is asked, one decides. Pure."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.events import Assignment, Micros
from serving_worker.assignment import Asker, Entry, enter
from serving_worker.experiments import Snapshot

POLICY = "policy"
"""The parameter by which an arm names its ranker. The layer whose experiment sets it owns the surface's answers."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy that is to answer, and what every layer said."""

    policy_id: str
    parameters: Mapping[str, str]
    assignments: tuple[Assignment, ...]


def decide(snapshot: Snapshot, asker: Asker, now: Micros, default_policy: str) -> Decision:
    """The first layer whose experiment sets `policy` decides, and only its arm is exposed. Layers are asked all the same."""
    entries = [enter(layer, asker, now) for layer in snapshot.layers]
    owner = next((entry for entry in entries if _owns_policy(entry)), None)
    parameters = {} if owner is None or owner.arm is None else owner.arm.parameters
    assignments = tuple(
        dataclasses.replace(entry.assignment, exposed=True) if entry is owner else entry.assignment for entry in entries
    )
    return Decision(parameters.get(POLICY, default_policy), parameters, assignments)


def _owns_policy(entry: Entry) -> bool:
    """An arm without `policy` is the control: it keeps the default, and its experiment owns the answer like the others'."""
    return entry.definition is not None and any(POLICY in arm.parameters for arm in entry.definition.arms)
