"""What the revisions of experiments have to satisfy together, over time: salts, buckets and parameters have one owner each.

Assignment has no memory, so what keeps a unit where it was is that a started experiment does not change, but for its ranges. They
grow, and they shrink: which buckets may go is for those to say who can ask who was exposed (experiment_shrinks.py).

Whatever an experiment gives up, or owned at its end, stays its own for QUARANTINE_S. A snapshot is served for SNAPSHOT_AGE_S_MAX
at most, so by then no worker serves the old owner, and no unit is ever in both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from schemas.events import ExperimentDefinition, ExperimentId, ExperimentStatus, Micros
from schemas.experiment_ranges import Ranges, shared, united
from schemas.experiment_rules import ASSIGNED_KINDS, PLACED_KINDS, faults_of, name_of

SNAPSHOT_AGE_S_MAX = 86_400
"""No worker may be told to serve an older snapshot."""

QUARANTINE_S = SNAPSHOT_AGE_S_MAX + 3_600
"""The hour is for clocks that differ, and for what lies between a revision's time and its commit."""

FIXED = ("kind", "unit_type", "surfaces", "eligibility", "arms", "layer_id", "layer_salt", "arm_salt")
"""What cannot change once an experiment has started."""

HOLDING = frozenset({ExperimentStatus.RUNNING, ExperimentStatus.PAUSED})
"""The statuses in which an experiment owns what it names."""

_WHEN_FREE = f"what is given up, or owned at an end, is free {QUARANTINE_S} s later"
_FOR_EVER = Micros(2**63 - 1)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a revision owns in its layer, from when on, and until when nobody else may: a quarantine after the next one."""

    definition: ExperimentDefinition
    keys: frozenset[tuple[str, str]]
    since: Micros
    until: Micros


def broken_rules(definitions: Sequence[ExperimentDefinition]) -> list[str]:
    """One sentence for each rule that is broken, by a revision alone or by several; empty where all is well."""
    alone = [f"{name_of(definition)}: {fault}" for definition in definitions for fault in faults_of(definition)]
    histories = histories_of(definitions)
    changes = [fault for history in histories.values() for fault in _change_faults(history)]
    return [*alone, *_repeated(definitions), *_salt_faults(definitions), *changes, *_ownership_faults(histories)]


def histories_of(definitions: Iterable[ExperimentDefinition]) -> dict[ExperimentId, list[ExperimentDefinition]]:
    """The revisions of each experiment, the oldest first; experiments by id."""
    histories: defaultdict[ExperimentId, list[ExperimentDefinition]] = defaultdict(list)
    for definition in sorted(definitions, key=lambda definition: (definition.experiment_id, definition.revision)):
        histories[definition.experiment_id].append(definition)
    return dict(histories)


def owned_by_others(definition: ExperimentDefinition, known: Iterable[ExperimentDefinition], now: Micros) -> Ranges:
    """What other experiments own in the definition's layer from `now` on, at whatever time, quarantines included."""
    claims = [
        claim
        for experiment_id, history in histories_of(known).items()
        if experiment_id != definition.experiment_id
        for claim in _claims(history)
    ]
    theirs = [claim.definition for claim in claims if claim.until > now]
    return united(span for each in theirs if each.layer_id == definition.layer_id for span in each.bucket_ranges)


def free_at(change: ExperimentDefinition) -> Micros:
    """From when on others may own what the experiment owned before this revision, and does not own under it."""
    return Micros(max(change.effective_at, change.changed_at, change.ended_at or 0) + QUARANTINE_S * 1_000_000)


def _repeated(definitions: Sequence[ExperimentDefinition]) -> Iterator[str]:
    names = Counter(name_of(definition) for definition in definitions)
    yield from (f"{name}: is there {times} times" for name, times in names.items() if times > 1)


def _salt_faults(definitions: Sequence[ExperimentDefinition]) -> Iterator[str]:
    """A layer has one salt for good, with another every unit would change its place; and no salt is used twice."""
    placed = [definition for definition in definitions if definition.kind in PLACED_KINDS and definition.layer_id]
    by_layer = _gathered((str(each.layer_id), each.layer_salt) for each in placed)
    by_salt = _gathered((each.layer_salt, str(each.layer_id)) for each in placed)
    by_arm_salt = _gathered((each.arm_salt, str(each.experiment_id)) for each in definitions if each.kind in ASSIGNED_KINDS)
    yield from (
        f"layer {layer!r}: has the salts {', '.join(sorted(found))}" for layer, found in by_layer.items() if len(found) > 1
    )
    for salt, layers in by_salt.items():
        if len(layers) > 1:
            yield f"layers {', '.join(sorted(layers))}: share the salt {salt!r}, so they would place units alike"
    for salt, experiments in by_arm_salt.items():
        if len(experiments) > 1:
            yield f"{', '.join(sorted(experiments))}: share the arm_salt {salt!r}, so their arms would hold the same units"


def _gathered(pairs: Iterable[tuple[str | None, str | None]]) -> Mapping[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for key, value in pairs:
        if key and value:
            found[key].add(value)
    return found


def _change_faults(history: Sequence[ExperimentDefinition]) -> Iterator[str]:
    started = False
    for before, after in pairwise(history):
        started = started or before.status is ExperimentStatus.RUNNING
        if before.kind in ASSIGNED_KINDS:
            yield from (f"{name_of(after)}: {fault}" for fault in _faults_of_change(before, after, started=started))


def _faults_of_change(before: ExperimentDefinition, after: ExperimentDefinition, *, started: bool) -> Iterator[str]:
    if before.status is ExperimentStatus.ENDED:
        yield "has ended, and an end is final: start another experiment, with an arm_salt of its own"
        return
    if not started:
        return
    if after.status is ExperimentStatus.DRAFT:
        yield "has started and cannot be a draft again: pause or end it"
    for name in FIXED:
        if getattr(before, name) != getattr(after, name):
            yield f"{name} cannot change once it has started: start another experiment, with an arm_salt of its own"


def _ownership_faults(histories: Mapping[ExperimentId, Sequence[ExperimentDefinition]]) -> list[str]:
    """Claims in the order of their beginning, each beside those that are not over by then."""
    open_claims: list[_Claim] = []
    faults: dict[tuple[ExperimentId, ...], str] = {}
    for claim in sorted((claim for history in histories.values() for claim in _claims(history)), key=_order):
        open_claims = [other for other in open_claims if other.until > claim.since]
        for other in open_claims:
            pair = tuple(sorted({other.definition.experiment_id, claim.definition.experiment_id}))
            if len(pair) > 1 and pair not in faults and (fault := _clash(other, claim)):
                faults[pair] = fault
        open_claims.append(claim)
    return list(faults.values())


def _order(claim: _Claim) -> tuple[Micros, ExperimentId, int]:
    return claim.since, claim.definition.experiment_id, claim.definition.revision


def _claims(history: Sequence[ExperimentDefinition]) -> Iterator[_Claim]:
    """None of a revision that a later one has overtaken before it took effect."""
    until = _FOR_EVER
    for each in reversed(history):
        if each.kind in PLACED_KINDS and each.status in HOLDING and each.effective_at < until:
            keys = frozenset((surface, name) for surface in each.surfaces for arm in each.arms for name in arm.parameters)
            yield _Claim(each, keys, each.effective_at, until)
        until = min(until, free_at(each))


def _clash(one: _Claim, other: _Claim) -> str | None:
    """One clash of two claims: buckets within a layer, parameters between layers."""
    here, there = one.definition, other.definition
    if here.layer_id == there.layer_id:
        if shared(here.bucket_ranges, there.bucket_ranges):
            where = f"{name_of(here)} and {name_of(there)}, both in the layer {here.layer_id!r}"
            return f"{where}: their bucket ranges overlap; {_WHEN_FREE}"
        return None
    if not (both := sorted(one.keys & other.keys)):
        return None
    surface, parameter = both[0]
    layers = ", ".join(sorted({str(here.layer_id), str(there.layer_id)}))
    return f"surface {surface!r}: the layers {layers} all set {parameter!r}; one may own it; {_WHEN_FREE}"
