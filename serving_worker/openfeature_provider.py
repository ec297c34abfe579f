"""The same arms for other services: an OpenFeature provider over serving's snapshot.

    api.set_provider(TailraceProvider.from_environment(os.environ, "home"))

The targeting key is the unit. Of the evaluation context's attributes `surface` and `unit_type` stand before the provider's own,
`traffic` says who asks (live, where it is not said), and `forced_arms` names arms by experiment, for those who look at an answer
before users do; the other ones stand for eligibility. The provider's own hook emits an exposure for each evaluation that exposes
the unit to something: a RecommendationServed without slots, whose policy is the flag, so that analysis finds all exposures in one
place. What a flag's value is, and what it exposes to, is `flags.py`.

`initialize` opens, and waits a little for definitions that may be served; `shutdown` closes what it has opened. READY, STALE and
CONFIGURATION_CHANGED follow the snapshot. No evaluation waits, whatever state the provider is in.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from typing import TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, FlagValueType
from openfeature.flag_evaluation import Reason as FlagReason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import AbstractProvider
from openfeature.provider.metadata import Metadata

from producers.main import new_id, now_us
from schemas.events import FLAG_POLICY_PREFIX, Event, ExperimentId, RecommendationServed, RequestId, Traffic, UnitId
from serving_worker.embedding import EmbeddingSettings, Tailrace
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.definitions import Snapshot
from serving_worker.flags import Flag, boolean, exposure_of, resolve, structure

T = TypeVar("T")

SURFACE, UNIT_TYPE, TRAFFIC, FORCED_ARMS = "surface", "unit_type", "traffic", "forced_arms"
READY_S = 5.0
"""For a host's first copy of the topic; a copy that is there is read at once."""


class TailraceProvider(AbstractProvider):
    """`surface` and `unit_type` hold where the evaluation context does not say. Leaves what `open_tailrace` gives at shutdown."""

    def __init__(
        self, open_tailrace: Callable[[], AbstractContextManager[Tailrace]], surface: str, unit_type: str = "user"
    ) -> None:
        super().__init__()
        self._open, self._surface, self._unit_type = open_tailrace, surface, unit_type
        self._standing = ExitStack()
        self._tailrace: Tailrace | None = None
        self._told = (False, Snapshot())
        """Whether definitions may be served, and which, as the SDK has been told."""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str], surface: str, unit_type: str = "user") -> "TailraceProvider":
        """For the installation that TAILRACE_* variables name. Raises ConfigurationError; needs no part to be up."""
        settings = EmbeddingSettings.from_environment(variables)
        return cls(lambda: closing(Tailrace.of(settings)), surface, unit_type)

    @classmethod
    def over(cls, tailrace: Tailrace, surface: str, unit_type: str = "user") -> "TailraceProvider":
        """For a service that has a Tailrace already, and closes it itself."""
        return cls(lambda: nullcontext(tailrace), surface, unit_type)

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 - the interface says so
        """Raises ProviderNotReadyError where there is nothing that may be served; it is READY once there is."""
        tailrace = self._standing.enter_context(self._open())
        self._tailrace = tailrace
        usable = _usable_within(tailrace, READY_S)
        self._told = (usable, _snapshot(tailrace))
        self._standing.enter_context(tailrace.experiments.telling(lambda: self._tell(tailrace)))
        if not usable:
            raise ProviderNotReadyError(_trouble(tailrace))

    def shutdown(self) -> None:
        self._tailrace = None
        self._standing.close()

    def get_metadata(self) -> Metadata:
        return Metadata("tailrace")

    def get_provider_hooks(self) -> list[Hook]:
        tailrace = self._tailrace
        return [] if tailrace is None else [ExposureHook(tailrace.emitter.emit)]

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - the interface says so
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(Flag(flag_key, default_value, boolean), evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(Flag(flag_key, default_value, str), evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(Flag(flag_key, default_value, int), evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(Flag(flag_key, default_value, float), evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve(Flag(flag_key, default_value, structure), evaluation_context)

    def _resolve(self, flag: Flag[T], context: EvaluationContext | None) -> FlagResolutionDetails[T]:
        tailrace = self._tailrace
        if tailrace is None:
            return _refused(flag, ErrorCode.PROVIDER_NOT_READY, "the provider is not initialized, or has been shut down")
        try:
            asker, traffic = _asked(context or EvaluationContext(), self._surface, self._unit_type)
        except ValueError as error:
            return _refused(flag, ErrorCode.INVALID_CONTEXT, str(error))
        return resolve(tailrace.experiments.snapshot(), asker, traffic, now_us(), flag)

    def _tell(self, tailrace: Tailrace) -> None:
        """Called after each look at the definitions."""
        usable, snapshot = _is_usable(tailrace), _snapshot(tailrace)
        (was_usable, known), self._told = self._told, (usable, snapshot)
        if usable and not was_usable:
            self.emit_provider_ready(ProviderEventDetails())
        elif was_usable and not usable:
            self.emit_provider_stale(ProviderEventDetails(message=_trouble(tailrace)))
        elif snapshot.layers is not known.layers or snapshot.holdbacks is not known.holdbacks:
            self.emit_provider_configuration_changed(ProviderEventDetails())


class ExposureHook(Hook):
    """Emits what an evaluation has exposed, as the evaluation says: the context that a hook is given lacks what others added."""

    def __init__(self, emit: Callable[[Event], bool]) -> None:
        self._emit = emit

    def after(self, hook_context: HookContext, details: FlagEvaluationDetails[FlagValueType], hints: HookHints) -> None:  # noqa: ARG002
        exposure = exposure_of(details.flag_metadata)
        if exposure is None:
            return
        policy = FLAG_POLICY_PREFIX + details.flag_key
        self._emit(
            RecommendationServed(
                occurred_at=now_us(),
                unit_type=exposure.unit_type,
                unit_id=exposure.unit_id,
                traffic=exposure.traffic,
                request_id=RequestId(new_id()),
                surface=exposure.surface,
                policy_id=policy,
                intended_policy_id=policy,
                assignments=exposure.assignments,
            )
        )


def _asked(context: EvaluationContext, surface: str, unit_type: str) -> tuple[Asker, Traffic]:
    """Attributes that are not texts are written as JSON would. Raises ValueError where an attribute of ours is wrong."""
    attributes = dict(context.attributes)
    traffic = Traffic(str(attributes.pop(TRAFFIC, Traffic.LIVE)))
    forced = attributes.pop(FORCED_ARMS, {})
    if not isinstance(forced, Mapping):
        raise ValueError(f"{FORCED_ARMS} should be arms by experiment, not {forced!r}")  # noqa: TRY004 - as an unknown traffic
    surface, unit_type = str(attributes.pop(SURFACE, surface)), str(attributes.pop(UNIT_TYPE, unit_type))
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in attributes.items()}
    arms = {ExperimentId(experiment): str(arm) for experiment, arm in forced.items()}
    return Asker(unit_type, UnitId(context.targeting_key or ""), surface, texts, arms), traffic


def _refused(flag: Flag[T], code: ErrorCode, text: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(flag.default, code, text, FlagReason.ERROR)


def _snapshot(tailrace: Tailrace) -> Snapshot:
    return tailrace.experiments.snapshot() or Snapshot()


def _is_usable(tailrace: Tailrace) -> bool:
    snapshot = tailrace.experiments.snapshot()
    return snapshot is not None and snapshot.holds(now_us())


def _usable_within(tailrace: Tailrace, limit_s: float) -> bool:
    looked = threading.Event()
    with tailrace.experiments.telling(lambda: looked.set() if _is_usable(tailrace) else None):
        return _is_usable(tailrace) or looked.wait(limit_s)


def _trouble(tailrace: Tailrace) -> str:
    return tailrace.experiments.problem or "there are no definitions of experiments that are new enough"
