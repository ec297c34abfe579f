"""Which experiment and which arm a unit is in: pure functions of salts, ids and definitions, the same for ever.

A text is hashed as murmur3 x64 128, seed 0, over the UTF-8 bytes of `<salt> NUL <unit_id>`; its first 64 bits, h, give
floor(h · n / 2^64), one of n places. The chances of two places differ by less than n / 2^64: 6e-14 for a million buckets, 2e-10
for arms whose weights sum to 2^31. A unit's place in its layer and its arm come from different salts, so they are independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import mmh3

from schemas.events import Arm, Assignment, ExperimentDefinition, ExperimentStatus, Micros, UnitId
from schemas.experiment_rules import BUCKETS


class Reason(StrEnum):
    """Why a layer has, or has not, put the unit into an experiment."""

    ASSIGNED = "assigned"
    NO_EXPERIMENT = "no_experiment"
    """The unit's bucket belongs to no experiment."""
    NOT_RUNNING = "not_running"
    OTHER_UNIT_TYPE = "other_unit_type"
    OTHER_SURFACE = "other_surface"
    NOT_ELIGIBLE = "not_eligible"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and for which surface."""

    unit_type: str
    unit_id: UnitId
    surface: str
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Layer:
    """The experiments that share one hash. Each stands as its revisions, the oldest first."""

    layer_id: str
    salt: str
    experiments: tuple[tuple[ExperimentDefinition, ...], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What one layer decided. `definition` and `arm` are None where the unit entered nothing."""

    assignment: Assignment
    definition: ExperimentDefinition | None = None
    arm: Arm | None = None


def place(salt: str, unit_id: str, places: int) -> int:
    """One of 0 … places - 1, each with the same chance."""
    first_64_bits, _ = mmh3.hash64(f"{salt}\0{unit_id}".encode(), 0, True, signed=False)
    return first_64_bits * places >> 64


def bucket_of(layer_salt: str, unit_id: str) -> int:
    return place(layer_salt, unit_id, BUCKETS)


def draw_arm(arm_salt: str, unit_id: str, arms: Sequence[Arm]) -> Arm:
    """One of `arms`, by their weights."""
    left = place(arm_salt, unit_id, sum(arm.weight for arm in arms))
    for arm in arms:
        if left < arm.weight:
            return arm
        left -= arm.weight
    raise AssertionError("a place is less than the weights' sum")


def enter(layer: Layer, asker: Asker, now: Micros) -> Entry:
    """The experiment and arm of `layer` that the asker is in at `now`, or why it is in none."""
    bucket = bucket_of(layer.salt, asker.unit_id)
    definition = _holder(layer, bucket, now)
    reason = _refusal(definition, asker)
    if definition is None or reason is not None:
        return Entry(
            Assignment(asker.unit_type, reason or Reason.NO_EXPERIMENT, exposed=False, layer_id=layer.layer_id, bucket=bucket)
        )
    arm = draw_arm(definition.arm_salt or "", asker.unit_id, definition.arms)
    assignment = Assignment(
        unit_type=asker.unit_type,
        reason=Reason.ASSIGNED,
        exposed=False,
        experiment_id=definition.experiment_id,
        revision=definition.revision,
        layer_id=layer.layer_id,
        arm=arm.name,
        bucket=bucket,
    )
    return Entry(assignment, definition, arm)


def _holder(layer: Layer, bucket: int, now: Micros) -> ExperimentDefinition | None:
    """The definition to which `bucket` belongs at `now`: a running one before any other."""
    current = [revision for revisions in layer.experiments if (revision := _current(revisions, now)) and _holds(revision, bucket)]
    return next(
        (definition for definition in current if definition.status == ExperimentStatus.RUNNING), next(iter(current), None)
    )


def _current(revisions: Sequence[ExperimentDefinition], now: Micros) -> ExperimentDefinition | None:
    """The newest revision that has taken effect."""
    return next((revision for revision in reversed(revisions) if revision.effective_at <= now), None)


def _holds(definition: ExperimentDefinition, bucket: int) -> bool:
    return any(span.first <= bucket < span.end for span in definition.bucket_ranges)


def _refusal(definition: ExperimentDefinition | None, asker: Asker) -> Reason | None:
    """Why `definition` does not take the asker in; None where it does."""
    if definition is None:
        return Reason.NO_EXPERIMENT
    if definition.status != ExperimentStatus.RUNNING:
        return Reason.NOT_RUNNING
    if definition.unit_type != asker.unit_type:
        return Reason.OTHER_UNIT_TYPE
    if asker.surface not in definition.surfaces:
        return Reason.OTHER_SURFACE
    eligible = all(asker.context.get(rule.key) in rule.values for rule in definition.eligibility)
    return None if eligible else Reason.NOT_ELIGIBLE
