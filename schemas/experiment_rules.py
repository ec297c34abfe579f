"""What experiment definitions have to satisfy, each alone and all together, before they may be published or served."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from schemas.events import BucketRange, ExperimentDefinition, ExperimentKind, ExperimentStatus

BUCKETS = 1_000_000
"""A layer's buckets are 0 to BUCKETS - 1."""

ARMS_WEIGHT_MAX = 2**31 - 1

ASSIGNED_KINDS = frozenset({ExperimentKind.AB, ExperimentKind.HOLDBACK})
"""The kinds whose arms serving draws. Observed experiments are assigned elsewhere, interleaved ones within an answer."""

_HOLDING_BUCKETS = frozenset({ExperimentStatus.RUNNING, ExperimentStatus.PAUSED})
_NAMED = ("experiment_id", "owner", "hypothesis", "unit_type", "changed_by")
_PLACED = ("layer_id", "layer_salt", "arm_salt")


def broken_rules(definitions: Sequence[ExperimentDefinition]) -> list[str]:
    """One sentence for each rule that is broken; empty where all is well."""
    alone = [f"{_name(definition)}: {fault}" for definition in definitions for fault in _faults(definition)]
    return [*alone, *_repeated(definitions), *_salt_faults(definitions), *_layer_faults(_newest(definitions))]


def newest_revisions(definitions: Iterable[ExperimentDefinition]) -> list[ExperimentDefinition]:
    """Of each experiment its highest revision, by experiment id."""
    newest: dict[str, ExperimentDefinition] = {}
    for definition in definitions:
        known = newest.get(definition.experiment_id)
        if known is None or definition.revision > known.revision:
            newest[definition.experiment_id] = definition
    return [newest[name] for name in sorted(newest)]


def _newest(definitions: Sequence[ExperimentDefinition]) -> list[ExperimentDefinition]:
    """The newest revisions that take part in assignment."""
    return [
        definition
        for definition in newest_revisions(definitions)
        if definition.kind in ASSIGNED_KINDS and definition.status in _HOLDING_BUCKETS
    ]


def _name(definition: ExperimentDefinition) -> str:
    return f"{definition.experiment_id}:{definition.revision}"


def _faults(definition: ExperimentDefinition) -> Iterator[str]:
    yield from (f"{name} is empty" for name in _NAMED if not getattr(definition, name).strip())
    if not 1 <= definition.revision < 2**31:
        yield "revision should be 1 or more"
    if not definition.surfaces:
        yield "names no surface"
    if definition.ended_at is not None and definition.ended_at < definition.effective_at:
        yield "ends before it takes effect"
    yield from (f"eligibility of {rule.key!r} allows no value" for rule in definition.eligibility if not rule.values)
    yield from _arm_faults(definition)
    yield from _range_faults(definition.bucket_ranges)
    if definition.kind in ASSIGNED_KINDS:
        yield from _placement_faults(definition)


def _arm_faults(definition: ExperimentDefinition) -> Iterator[str]:
    if len(definition.arms) < 2:
        yield "has fewer than two arms"
    names = Counter(arm.name for arm in definition.arms)
    yield from (f"arm {name!r} is there {times} times" for name, times in names.items() if times > 1)
    if "" in names:
        yield "an arm has no name"
    for arm in definition.arms:
        if arm.weight <= 0:
            yield f"arm {arm.name!r} has the weight {arm.weight}, which is not above 0"
    if sum(arm.weight for arm in definition.arms) > ARMS_WEIGHT_MAX:
        yield f"the arms' weights sum to more than {ARMS_WEIGHT_MAX}"


def _range_faults(ranges: Sequence[BucketRange]) -> Iterator[str]:
    for span in ranges:
        if not 0 <= span.first < span.end <= BUCKETS:
            yield f"buckets {span.first} to {span.end} are no range within 0 and {BUCKETS}"
    for one, other in combinations(ranges, 2):
        if _overlap(one, other):
            yield f"buckets {one.first} to {one.end} and {other.first} to {other.end} overlap"


def _placement_faults(definition: ExperimentDefinition) -> Iterator[str]:
    yield from (f"{name} is missing: serving needs it to assign units" for name in _PLACED if not getattr(definition, name))
    if not definition.bucket_ranges:
        yield "has no bucket ranges"
    if definition.layer_salt and definition.layer_salt == definition.arm_salt:
        yield "layer_salt and arm_salt are the same: place and arm would not be independent"
    if any("\0" in (salt or "") for salt in (definition.layer_salt, definition.arm_salt)):
        yield "a salt holds a NUL, which ends salts"


def _repeated(definitions: Sequence[ExperimentDefinition]) -> Iterator[str]:
    names = Counter(_name(definition) for definition in definitions)
    yield from (f"{name}: is there {times} times" for name, times in names.items() if times > 1)


def _salt_faults(definitions: Sequence[ExperimentDefinition]) -> Iterator[str]:
    """A layer has one salt for good: with another, every unit would change its place."""
    salts: defaultdict[str, set[str]] = defaultdict(set)
    for definition in definitions:
        if definition.kind in ASSIGNED_KINDS:
            salts[str(definition.layer_id)].add(str(definition.layer_salt))
    yield from (f"layer {layer!r}: has the salts {', '.join(sorted(found))}" for layer, found in salts.items() if len(found) > 1)


def _layer_faults(definitions: Sequence[ExperimentDefinition]) -> Iterator[str]:
    for one, other in combinations(definitions, 2):
        if one.layer_id == other.layer_id:
            yield from _same_layer_faults(one, other)
    yield from _shared_parameters(definitions)


def _same_layer_faults(one: ExperimentDefinition, other: ExperimentDefinition) -> Iterator[str]:
    where = f"{_name(one)} and {_name(other)}, both in the layer {one.layer_id!r}"
    if any(_overlap(here, there) for here in one.bucket_ranges for there in other.bucket_ranges):
        yield f"{where}: their bucket ranges overlap"


def _shared_parameters(definitions: Sequence[ExperimentDefinition]) -> Iterator[str]:
    """A (surface, parameter) belongs to one layer, so that two experiments never both decide one answer."""
    owners: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for definition in definitions:
        for surface in definition.surfaces:
            for parameter in {name for arm in definition.arms for name in arm.parameters}:
                owners[surface, parameter].add(str(definition.layer_id))
    for (surface, parameter), layers in sorted(owners.items()):
        if len(layers) > 1:
            yield f"surface {surface!r}: the layers {', '.join(sorted(layers))} all set {parameter!r}; one may own it"


def _overlap(one: BucketRange, other: BucketRange) -> bool:
    return one.first < other.end and other.first < one.end
