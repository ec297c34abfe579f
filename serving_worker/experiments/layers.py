"""Experiments made ready for asking: who holds which bucket at which time. Made once a snapshot, asked by every request. Pure.

A revision counts from its effective time on. One that pauses or ends and was to do so at once counts as soon as it is known: a
worker whose clock is behind must not go on serving what was stopped.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby
from typing import Generic, NamedTuple, TypeVar

from schemas.events import (
    Arm,
    Assignment,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    Micros,
)
from schemas.experiment_rules import BUCKETS
from serving_worker.experiments.assignment import Asker, Domain, Reason, fall, prefix_of

T = TypeVar("T")

_STOPPING = frozenset({ExperimentStatus.PAUSED, ExperimentStatus.ENDED})
_ASSIGNED, HELD_OUT = Reason.ASSIGNED, Reason.HOLDBACK
"""By names of their own: looking up a member of an enum takes longer than the hash does."""
BEGINNING = Micros(-(2**63))
"""Of time."""


@dataclass(frozen=True, slots=True)
class Timeline(Generic[T]):
    """Values, each from its start on. The first start is the beginning of time."""

    starts: tuple[Micros, ...]
    values: tuple[T, ...]

    def at(self, now: Micros) -> T:
        return self.values[bisect_right(self.starts, now) - 1]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A revision, with what every request asks of it worked out. `arm_ends` are the weights, summed up."""

    definition: ExperimentDefinition
    closed: Reason | None
    """Why it takes nobody in now, whoever asks."""
    surfaces: frozenset[str]
    eligibility: tuple[tuple[str, frozenset[str]], ...]
    arm_prefix: bytes
    arm_ends: tuple[int, ...]
    told: tuple[str, ExperimentId, int, str | None]
    """What an assignment tells of it: unit type, id, revision, layer."""
    decides: bool
    """Its arms decide the answer, so whoever enters is exposed: they set parameters, or are alike on purpose (A/A)."""

    def refusal(self, asker: Asker) -> Reason | None:
        """Why it does not take the asker in; None where it does."""
        if (reason := self.closed or self.misfit(asker)) is not None:
            return reason
        for key, allowed in self.eligibility:
            if asker.context.get(key) not in allowed:
                return Reason.NOT_ELIGIBLE
        return None

    def misfit(self, asker: Asker) -> Reason | None:
        if self.definition.unit_type != asker.unit_type:
            return Reason.OTHER_UNIT_TYPE
        return None if asker.surface in self.surfaces else Reason.OTHER_SURFACE

    def draw(self, unit: bytes) -> Arm:
        """One of the arms, by their weights. The bucket has no part in it: a ramp moves no unit between arms."""
        return self.definition.arms[bisect_right(self.arm_ends, fall(self.arm_prefix, unit, self.arm_ends[-1]))]

    def assignment(self, arm: Arm, reason: Reason, bucket: int | None) -> Assignment:
        unit_type, experiment_id, revision, layer_id = self.told
        return Assignment(unit_type, reason, self.decides, experiment_id, revision, layer_id, arm.name, bucket)


@dataclass(frozen=True, slots=True)
class Table:
    """Who holds the buckets from `firsts[i]` up to the next, and all revisions that are in force."""

    firsts: tuple[int, ...]
    holders: tuple[Tenant | None, ...]
    tenants: dict[ExperimentId, Tenant]

    def holder(self, bucket: int) -> Tenant | None:
        return self.holders[bisect_right(self.firsts, bucket) - 1]


@dataclass(frozen=True, slots=True)
class Layer:
    """The experiments that share one hash. Each stands as its revisions, the oldest first."""

    layer_id: str
    salt: str
    experiments: tuple[tuple[ExperimentDefinition, ...], ...]
    prefix: bytes
    tables: Timeline[Table]


@dataclass(frozen=True, slots=True)
class Holdback:
    """Units that stay out of all layers: those of its first arm. Its other arm is everybody else, to compare with."""

    experiment_id: ExperimentId
    tenants: Timeline[Tenant | None]


class Entry(NamedTuple):
    """What one layer or holdback decided. `arm` is None where the unit entered nothing."""

    assignment: Assignment
    arm: Arm | None = None


def layer_of(
    layer_id: str, experiments: Sequence[Sequence[ExperimentDefinition]], killed: frozenset[ExperimentId], since: Micros
) -> Layer:
    """`since`: the layer will not be asked about earlier times."""
    salt = experiments[0][0].layer_salt or ""
    revisions = [revision for history in experiments for revision in history]
    tables = _timeline(revisions, since, lambda current: _table(current, killed))
    return Layer(layer_id, salt, tuple(map(tuple, experiments)), prefix_of(Domain.LAYER, salt), tables)


def holdback_of(revisions: Sequence[ExperimentDefinition], killed: frozenset[ExperimentId], since: Micros) -> Holdback:
    tenants = _timeline(revisions, since, lambda current: next((_tenant(each, killed) for each in current), None))
    return Holdback(revisions[0].experiment_id, tenants)


def enter(layer: Layer, asker: Asker, unit: bytes, now: Micros) -> Entry:
    """The arm of `layer` that the asker is in at `now`, or why it is in none. `unit` is its id, framed."""
    bucket = fall(layer.prefix, unit, BUCKETS)
    tenant = layer.tables.at(now).holder(bucket)
    if tenant is None:
        return _outside(layer, asker, Reason.NO_EXPERIMENT, bucket)
    if (reason := tenant.refusal(asker)) is not None:
        return _outside(layer, asker, reason, bucket)
    arm = tenant.draw(unit)
    return Entry(tenant.assignment(arm, _ASSIGNED, bucket), arm)


def _outside(layer: Layer, asker: Asker, reason: Reason, bucket: int | None = None) -> Entry:
    return Entry(Assignment(asker.unit_type, reason, exposed=False, layer_id=layer.layer_id, bucket=bucket))


def force(layer: Layer, asker: Asker, now: Micros) -> Entry | None:
    """The arm that the asker's request names in this layer; None where it names none of its experiments."""
    tenants = layer.tables.at(now).tenants
    named = next((tenants[experiment_id] for experiment_id in asker.forced if experiment_id in tenants), None)
    if named is None:
        return None
    arm = next((arm for arm in named.definition.arms if arm.name == asker.forced[named.definition.experiment_id]), None)
    if (reason := _cannot_force(named, arm) or named.misfit(asker)) is not None:
        return _outside(layer, asker, reason)
    assert arm is not None, "what cannot be forced is refused"
    return Entry(named.assignment(arm, Reason.FORCED, None), arm)


def _cannot_force(named: Tenant, arm: Arm | None) -> Reason | None:
    """A draft or a paused experiment can be looked at; what was killed stays killed."""
    if named.closed is Reason.KILLED:
        return Reason.KILLED
    return Reason.CANNOT_FORCE if arm is None or named.definition.status is ExperimentStatus.ENDED else None


def hold_out(holdback: Holdback, asker: Asker, unit: bytes, now: Micros) -> Entry | None:
    """The holdback's arm of the asker, with reason HOLDBACK where it is held out; None where the holdback is not for it."""
    tenant = holdback.tenants.at(now)
    if tenant is None or tenant.closed is not None or tenant.definition.unit_type != asker.unit_type:
        return None
    arm = tenant.draw(unit)
    held = arm is tenant.definition.arms[0]
    return Entry(tenant.assignment(arm, HELD_OUT if held else _ASSIGNED, None), arm)


def _timeline(
    revisions: Sequence[ExperimentDefinition], since: Micros, value: Callable[[Sequence[ExperimentDefinition]], T]
) -> Timeline[T]:
    """The value of the revisions in force, over time. Of an experiment the highest revision that counts is in force."""
    starts, values = [BEGINNING], [value([])]
    current: dict[ExperimentId, ExperimentDefinition] = {}
    for start, joining in groupby(sorted(revisions, key=partial(_start, since)), key=partial(_start, since)):
        for revision in joining:
            known = current.get(revision.experiment_id)
            if known is None or known.revision < revision.revision:
                current[revision.experiment_id] = revision
        starts.append(start)
        values.append(value([current[name] for name in sorted(current)]))
    return Timeline(tuple(starts), tuple(values))


def _start(since: Micros, revision: ExperimentDefinition) -> Micros:
    """What began by `since` began for ever ago, so that a clock that is set back finds it too."""
    stops_at_once = revision.status in _STOPPING and revision.effective_at <= revision.changed_at
    return BEGINNING if stops_at_once or revision.effective_at <= since else revision.effective_at


def _table(current: Sequence[ExperimentDefinition], killed: frozenset[ExperimentId]) -> Table:
    """Where ranges overlap a running experiment holds before any other, then the first by id."""
    tenants = [_tenant(definition, killed) for definition in current]
    spans = [span for definition in current for span in definition.bucket_ranges]
    firsts = sorted({0, *(span.first for span in spans), *(span.end for span in spans if span.end < BUCKETS)})
    holders: list[Tenant | None] = [None] * len(firsts)
    running = [tenant for tenant in tenants if tenant.definition.status is ExperimentStatus.RUNNING]
    others = [tenant for tenant in tenants if tenant.definition.status is not ExperimentStatus.RUNNING]
    for tenant in reversed([*running, *others]):
        for span in tenant.definition.bucket_ranges:
            first, end = bisect_left(firsts, span.first), bisect_left(firsts, span.end)
            holders[first:end] = [tenant] * (end - first)
    return Table(tuple(firsts), tuple(holders), {tenant.definition.experiment_id: tenant for tenant in tenants})


def _tenant(definition: ExperimentDefinition, killed: frozenset[ExperimentId]) -> Tenant:
    holdback = definition.kind is ExperimentKind.HOLDBACK
    return Tenant(
        definition=definition,
        closed=_closed(definition, killed),
        surfaces=frozenset(definition.surfaces),
        eligibility=tuple((rule.key, frozenset(rule.values)) for rule in definition.eligibility),
        arm_prefix=prefix_of(Domain.HOLDBACK if holdback else Domain.ARM, definition.arm_salt or ""),
        arm_ends=tuple(accumulate(arm.weight for arm in definition.arms)),
        told=(definition.unit_type, definition.experiment_id, definition.revision, definition.layer_id),
        decides=definition.kind is not ExperimentKind.AB or any(arm.parameters for arm in definition.arms),
    )


def _closed(definition: ExperimentDefinition, killed: frozenset[ExperimentId]) -> Reason | None:
    if definition.experiment_id in killed:
        return Reason.KILLED
    return None if definition.status is ExperimentStatus.RUNNING else Reason.NOT_RUNNING
