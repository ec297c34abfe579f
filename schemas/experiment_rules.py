"""What a definition of an experiment has to satisfy by itself before it may be published or served."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from schemas.events import Arm, BucketRange, ExperimentDefinition, ExperimentId, ExperimentKind

BUCKETS = 1_000_000
"""A layer's buckets are 0 to BUCKETS - 1."""

RANGES_MAX = 1_000
"""Of one definition: every revision is a message of the topic, and all of them are in every host's snapshot."""

ARMS_WEIGHT_MAX = 2**31 - 1
REVISION_MAX = 2**31 - 1

PLACED_KINDS = frozenset({ExperimentKind.AB, ExperimentKind.AA})
"""The kinds that own buckets of a layer."""

ASSIGNED_KINDS = PLACED_KINDS | {ExperimentKind.HOLDBACK}
"""The kinds whose arms serving draws. Observed experiments are assigned elsewhere, interleaved ones within an answer."""

_NAMED = ("experiment_id", "owner", "hypothesis", "unit_type", "changed_by")
_PLACED = ("layer_id", "layer_salt", "arm_salt")
_NOT_OF_A_HOLDBACK = ("layer_id", "layer_salt", "surfaces", "eligibility", "bucket_ranges")
_IDS = re.compile(r"[A-Za-z0-9._-]+")
_NAMES = re.compile(r"(.*):([0-9]{1,10})", re.DOTALL)


def name_of(definition: ExperimentDefinition) -> str:
    return f"{definition.experiment_id}:{definition.revision}"


def named_by(name: str) -> tuple[ExperimentId, int] | None:
    """The experiment and the revision that such a name is of; None where it is none. Keys of foreign records may be anything."""
    parts = _NAMES.fullmatch(name)
    return None if parts is None else (ExperimentId(parts[1]), int(parts[2]))


def id_faults(experiment_id: ExperimentId) -> Iterator[str]:
    """For a new experiment only: one that runs has to be served, and stopped, under whatever id it has."""
    if not _IDS.fullmatch(experiment_id):
        yield (
            f"{experiment_id!r} is no id for a new experiment: kill files and requests could not name it; "
            "letters A to Z and a to z, digits, and . _ - can be named"
        )


def faults_of(definition: ExperimentDefinition) -> Iterator[str]:
    """One sentence for each rule that is broken."""
    yield from (f"{name} is empty" for name in _NAMED if not getattr(definition, name).strip())
    if not 1 <= definition.revision <= REVISION_MAX:
        yield "revision should be 1 or more"
    if definition.ended_at is not None and definition.ended_at < definition.effective_at:
        yield "ends before it takes effect"
    yield from (f"eligibility of {rule.key!r} allows no value" for rule in definition.eligibility if not rule.values)
    yield from _arm_faults(definition)
    yield from _range_faults(definition.bucket_ranges)
    yield from _kind_faults(definition)


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
    if len(ranges) > RANGES_MAX:
        yield f"has {len(ranges)} bucket ranges, and {RANGES_MAX} are the most"
    for one, other in pairwise(sorted(ranges, key=lambda span: span.first)):
        if other.first < one.end:
            yield f"buckets {one.first} to {one.end} and {other.first} to {other.end} overlap"


def _kind_faults(definition: ExperimentDefinition) -> Iterator[str]:
    if definition.kind is ExperimentKind.HOLDBACK:
        yield from _holdback_faults(definition)
        return
    if not definition.surfaces:
        yield "names no surface"
    if definition.kind in PLACED_KINDS:
        yield from _placement_faults(definition)
        yield from _likeness_faults(definition.kind, definition.arms)


def _placement_faults(definition: ExperimentDefinition) -> Iterator[str]:
    yield from (f"{name} is missing: serving needs it to assign units" for name in _PLACED if not getattr(definition, name))
    if not definition.bucket_ranges:
        yield "has no bucket ranges"


def _likeness_faults(kind: ExperimentKind, arms: Sequence[Arm]) -> Iterator[str]:
    """Arms that are alike by mistake measure nothing; arms that are to be alike are said to be."""
    for one, other in combinations(arms, 2):
        if kind is ExperimentKind.AB and one.parameters == other.parameters:
            yield f"arms {one.name!r} and {other.name!r} set the same; where that is meant, the kind is aa"
        if kind is ExperimentKind.AA and one.parameters != other.parameters:
            yield f"arms {one.name!r} and {other.name!r} set different things, and the kind is aa"


def _holdback_faults(definition: ExperimentDefinition) -> Iterator[str]:
    """It stands above layers and surfaces: who is held out is its first arm, and its other arm is everybody else."""
    yield from (f"{name} is given, and a holdback has none" for name in _NOT_OF_A_HOLDBACK if getattr(definition, name))
    if not definition.arm_salt:
        yield "arm_salt is missing: serving needs it to assign units"
    if len(definition.arms) > 2:
        yield "a holdback has two arms: who is held out, and everybody else"
    if any(arm.parameters for arm in definition.arms):
        yield "an arm of a holdback sets parameters"
