"""What a flag's value is for whoever asks, and whom that exposes to which experiments. Pure.

A flag is a parameter of the layers. A unit that is in no experiment on the flag has the caller's default, and the metadata's
`reason` says why; so has one whose arm leaves the flag alone, and that arm is the variant. An evaluation exposes the unit to the
experiment whose arm decided, and to the holdbacks wherever the flag is one that an experiment would decide for such a unit:
those that are held out are counted by the same rule as those that are not, or the two could not be compared.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.flag_evaluation import Reason as FlagReason

from schemas.events import Assignment, Micros, Traffic, UnitId
from serving_worker.experiments.assignment import Asker, Reason
from serving_worker.experiments.decision import entries_of
from serving_worker.experiments.definitions import Snapshot
from serving_worker.experiments.layers import Entry, Tenant

T = TypeVar("T")

EXPOSURE = "exposure"
"""The metadata's key for what the hook is to emit: an Exposure as JSON, the only form in which a hook can be given it."""

_FLAG_REASONS: Mapping[str, FlagReason] = {
    Reason.ASSIGNED: FlagReason.SPLIT,
    Reason.FORCED: FlagReason.TARGETING_MATCH,
    Reason.NOT_RUNNING: FlagReason.DISABLED,
    Reason.KILLED: FlagReason.DISABLED,
    Reason.STALE_CONFIG: FlagReason.STALE,
}


@dataclass(frozen=True, slots=True)
class Flag(Generic[T]):
    """`read` makes a value of an arm's parameter, or raises ValueError."""

    key: str
    default: T
    read: Callable[[str], T]


@dataclass(frozen=True, slots=True)
class Exposure:
    """Who was exposed, among which traffic, and to what."""

    unit_type: str
    unit_id: UnitId
    surface: str
    traffic: Traffic
    assignments: tuple[Assignment, ...]


def resolve(snapshot: Snapshot | None, asker: Asker, traffic: Traffic, now: Micros, flag: Flag[T]) -> FlagResolutionDetails[T]:
    """`traffic` is what the asker is part of where no arm is forced."""
    entries, layers = entries_of(snapshot, asker, now), () if snapshot is None else snapshot.layers
    tenants = [tenant for layer in layers for tenant in layer.tables.at(now).tenants.values()]
    deciding = [tenant for tenant in tenants if any(flag.key in arm.parameters for arm in tenant.definition.arms)]
    owner = _owner(entries, deciding)
    exposed = (*_holdbacks(entries, asker, deciding), *([] if owner is None else [owner.assignment]))
    told = Exposure(asker.unit_type, asker.unit_id, asker.surface, Traffic.FORCED if asker.forced else traffic, exposed)
    metadata = {EXPOSURE: msgspec.json.encode(told).decode()} if exposed else {}
    if owner is not None:
        return _decided(flag, owner, metadata)
    return _defaulted(flag.default, _with_a_say(entries, deciding), metadata)


def exposure_of(metadata: Mapping[str, bool | int | float | str]) -> Exposure | None:
    """What `resolve` has put there; None where nobody was exposed."""
    told = metadata.get(EXPOSURE)
    return None if told is None else msgspec.json.decode(str(told), type=Exposure)


def boolean(raw: str) -> bool:
    if raw not in {"true", "false"}:
        raise ValueError(raw)
    return raw == "true"


def structure(raw: str) -> Sequence[FlagValueType] | Mapping[str, FlagValueType]:
    value = json.loads(raw)
    if not isinstance(value, (list, dict)):
        raise ValueError(raw)  # noqa: TRY004 - one error for all that is of the wrong type
    return value


def _owner(entries: Sequence[Entry], deciding: Sequence[Tenant]) -> Entry | None:
    """The entry whose experiment decides. An arm that does not set the flag keeps the default, and is its control."""
    names = {tenant.definition.experiment_id for tenant in deciding}
    return next((entry for entry in entries if entry.arm is not None and entry.assignment.experiment_id in names), None)


def _with_a_say(entries: Sequence[Entry], deciding: Sequence[Tenant]) -> Sequence[Entry]:
    """Those of the layers whose experiments set the flag, and of none; all of them where no experiment sets it."""
    layers = {None, *(tenant.definition.layer_id for tenant in deciding)}
    return [entry for entry in entries if entry.assignment.layer_id in layers] if deciding else entries


def _holdbacks(entries: Sequence[Entry], asker: Asker, deciding: Sequence[Tenant]) -> Iterator[Assignment]:
    if any(tenant.refusal(asker) is None for tenant in deciding):
        yield from (entry.assignment for entry in entries if entry.arm is not None and entry.assignment.layer_id is None)


def _decided(flag: Flag[T], owner: Entry, metadata: Mapping[str, str]) -> FlagResolutionDetails[T]:
    assert owner.arm is not None, "who decides is an arm"
    raw = owner.arm.parameters.get(flag.key)
    try:
        value = flag.default if raw is None else flag.read(raw)
    except ValueError:
        text = f"the arm {owner.arm.name!r} sets {flag.key!r} to {raw!r}, which is not of the type that was asked for"
        return FlagResolutionDetails(flag.default, ErrorCode.TYPE_MISMATCH, text, FlagReason.ERROR)
    reason, told = _FLAG_REASONS[owner.assignment.reason], {**_metadata_of(owner.assignment), **metadata}
    return FlagResolutionDetails(value, reason=reason, variant=owner.arm.name, flag_metadata=told)


def _defaulted(default: T, entries: Sequence[Entry], metadata: Mapping[str, str]) -> FlagResolutionDetails[T]:
    """Several layers may have refused: the first that had a say gives the reason."""
    if any(entry.assignment.reason is Reason.NO_UNIT for entry in entries):
        return FlagResolutionDetails(default, ErrorCode.TARGETING_KEY_MISSING, "the targeting key is blank", FlagReason.ERROR)
    refused = next((entry.assignment for entry in entries if entry.arm is None), None)
    if refused is None:
        return FlagResolutionDetails(default, reason=FlagReason.DEFAULT, flag_metadata=metadata)
    reason = _FLAG_REASONS.get(refused.reason, FlagReason.DEFAULT)
    return FlagResolutionDetails(default, reason=reason, flag_metadata={**_metadata_of(refused), **metadata})


def _metadata_of(assignment: Assignment) -> dict[str, bool | int | float | str]:
    """Who decided, for people and for other hooks."""
    named: dict[str, bool | int | float | str | None] = {
        "reason": str(assignment.reason),
        "experiment_id": assignment.experiment_id,
        "revision": assignment.revision,
        "layer_id": assignment.layer_id,
        "bucket": assignment.bucket,
    }
    return {key: value for key, value in named.items() if value is not None}
