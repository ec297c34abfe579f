"""The same arms for other services: an OpenFeature provider over serving's snapshot.

A flag is a parameter of the layers; the targeting key is the unit; `surface` and `unit_type` come from the evaluation context, or
are the provider's; the context's other texts stand for eligibility. A unit that is in no experiment on the flag has the caller's
default, and the metadata's `reason` says why; so has one whose arm leaves the flag alone, and that arm is the variant. The
provider's own hook emits an exposure for each evaluation that an arm decided: a RecommendationServed without slots, so that
analysis finds all exposures in one place.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, FlagValueType
from openfeature.flag_evaluation import Reason as FlagReason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import AbstractProvider
from openfeature.provider.metadata import Metadata

from schemas.events import Assignment, Event, ExperimentId, Micros, RecommendationServed, RequestId, Traffic, UnitId
from serving_worker.experiments.assignment import Asker, Reason
from serving_worker.experiments.decision import entries_of
from serving_worker.experiments.definitions import Experiments, Snapshot
from serving_worker.experiments.layers import Entry

T = TypeVar("T")

SURFACE, UNIT_TYPE = "surface", "unit_type"
POLICY_PREFIX = "flag:"
"""Of the policy_id in an exposure's event."""

_FLAG_REASONS: Mapping[str, FlagReason] = {
    Reason.ASSIGNED: FlagReason.SPLIT,
    Reason.NOT_RUNNING: FlagReason.DISABLED,
    Reason.KILLED: FlagReason.DISABLED,
    Reason.STALE_CONFIG: FlagReason.STALE,
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the provider takes from outside, and whom it asks for where the evaluation context does not say."""

    emit: Callable[[Event], bool]
    now_us: Callable[[], Micros]
    new_id: Callable[[], str]
    surface: str
    unit_type: str = "user"


class TailraceProvider(AbstractProvider):
    def __init__(self, experiments: Experiments, surroundings: Surroundings) -> None:
        super().__init__()
        self._experiments, self._surroundings = experiments, surroundings

    def get_metadata(self) -> Metadata:
        return Metadata("tailrace")

    def get_provider_hooks(self) -> list[Hook]:
        return [ExposureHook(self._surroundings)]

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - the interface says so
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, default_value, evaluation_context, _boolean)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, default_value, evaluation_context, str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, default_value, evaluation_context, int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, default_value, evaluation_context, float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve(flag_key, default_value, evaluation_context, _object)

    def _resolve(
        self, flag: str, default: T, context: EvaluationContext | None, read: Callable[[str], T]
    ) -> FlagResolutionDetails[T]:
        asker, now = asker_of(context, self._surroundings), self._surroundings.now_us()
        snapshot = self._experiments.snapshot() or Snapshot()
        entries = entries_of(snapshot, asker, now)
        owner = next((entry for entry in entries if entry.arm is not None and flag in _flags(snapshot, entry, now)), None)
        if owner is None or owner.arm is None:
            return _defaulted(default, entries)
        raw = owner.arm.parameters.get(flag)
        try:
            value = default if raw is None else read(raw)
        except ValueError:
            text = f"the arm {owner.arm.name!r} sets {flag!r} to {raw!r}, which is not of the type that was asked for"
            return FlagResolutionDetails(default, ErrorCode.TYPE_MISMATCH, text, FlagReason.ERROR)
        return FlagResolutionDetails(
            value, reason=FlagReason.SPLIT, variant=owner.arm.name, flag_metadata=metadata_of(owner.assignment)
        )


class ExposureHook(Hook):
    """Emits an exposure for each evaluation that an arm decided."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def after(self, hook_context: HookContext, details: FlagEvaluationDetails[FlagValueType], hints: HookHints) -> None:  # noqa: ARG002
        if details.variant is None:
            return
        asker = asker_of(hook_context.evaluation_context, self._surroundings)
        policy = POLICY_PREFIX + details.flag_key
        self._surroundings.emit(
            RecommendationServed(
                occurred_at=self._surroundings.now_us(),
                unit_type=asker.unit_type,
                unit_id=asker.unit_id,
                traffic=Traffic.LIVE,
                request_id=RequestId(self._surroundings.new_id()),
                surface=asker.surface,
                policy_id=policy,
                intended_policy_id=policy,
                assignments=(_assignment_of(asker.unit_type, details),),
            )
        )


def asker_of(context: EvaluationContext | None, surroundings: Surroundings) -> Asker:
    """Attributes that are not texts are written as JSON would."""
    attributes = {} if context is None else dict(context.attributes)
    surface = str(attributes.pop(SURFACE, surroundings.surface))
    unit_type = str(attributes.pop(UNIT_TYPE, surroundings.unit_type))
    unit_id = UnitId((context.targeting_key if context is not None else None) or "")
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in attributes.items()}
    return Asker(unit_type, unit_id, surface, texts)


def metadata_of(assignment: Assignment) -> dict[str, bool | int | float | str]:
    """What a hook needs to know of who decided."""
    named: dict[str, bool | int | float | str | None] = {
        "reason": str(assignment.reason),
        "experiment_id": assignment.experiment_id,
        "revision": assignment.revision,
        "layer_id": assignment.layer_id,
        "bucket": assignment.bucket,
    }
    return {key: value for key, value in named.items() if value is not None}


def _flags(snapshot: Snapshot, entry: Entry, now: Micros) -> set[str]:
    """What the entry's experiment decides: an arm that does not set a flag keeps the default, and is its control."""
    tables = (layer.tables.at(now) for layer in snapshot.layers)
    found = next((table.tenants[name] for table in tables if (name := entry.assignment.experiment_id) in table.tenants), None)
    return set() if found is None else {name for arm in found.definition.arms for name in arm.parameters}


def _defaulted(default: T, entries: Sequence[Entry]) -> FlagResolutionDetails[T]:
    """Several layers may have refused: the first that had a say gives the reason."""
    if any(entry.assignment.reason is Reason.NO_UNIT for entry in entries):
        return FlagResolutionDetails(default, ErrorCode.TARGETING_KEY_MISSING, "the targeting key is blank", FlagReason.ERROR)
    refused = next((entry.assignment for entry in entries if entry.arm is None), None)
    if refused is None:
        return FlagResolutionDetails(default, reason=FlagReason.DEFAULT)
    reason = _FLAG_REASONS.get(refused.reason, FlagReason.DEFAULT)
    return FlagResolutionDetails(default, reason=reason, flag_metadata=metadata_of(refused))


def _assignment_of(unit_type: str, details: FlagEvaluationDetails[FlagValueType]) -> Assignment:
    found = details.flag_metadata
    return Assignment(
        unit_type=unit_type,
        reason=str(found["reason"]),
        exposed=True,
        experiment_id=ExperimentId(str(found["experiment_id"])),
        revision=int(found["revision"]),
        layer_id=str(found["layer_id"]),
        arm=details.variant,
        bucket=int(found["bucket"]),
    )


def _boolean(raw: str) -> bool:
    if raw not in {"true", "false"}:
        raise ValueError(raw)
    return raw == "true"


def _object(raw: str) -> Sequence[FlagValueType] | Mapping[str, FlagValueType]:
    value = json.loads(raw)
    if not isinstance(value, (list, dict)):
        raise ValueError(raw)  # noqa: TRY004 - one error for all that is of the wrong type
    return value
