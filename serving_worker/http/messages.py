"""The messages of the HTTP interface, and how a body becomes one.

Unknown fields are passed over: a newer client may send them.
"""

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from schemas.events import ExperimentId, Traffic
from serving_worker.errors import ApiError

T = TypeVar("T")

INTERACTIONS_MAX = 500
"""In one call."""

ENTRIES_MAX = 64
"""Of a context, and of forced arms. What waits to be sent is bounded in events, so each text of an event has a bound, too."""
CONTEXT_KEY_CHARACTERS_MAX, CONTEXT_VALUE_CHARACTERS_MAX = 128, 512

_Unit = Annotated[str, msgspec.Meta(max_length=256, description="A pseudonym; blank: nobody, whom control answers.")]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"\S")]
_Position = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_ContextKey = Annotated[str, msgspec.Meta(max_length=CONTEXT_KEY_CHARACTERS_MAX)]
_ContextValue = Annotated[str, msgspec.Meta(max_length=CONTEXT_VALUE_CHARACTERS_MAX)]
_Context = Annotated[dict[_ContextKey, _ContextValue], msgspec.Meta(max_length=ENTRIES_MAX)]
_ForcedExperiment = Annotated[ExperimentId, msgspec.Meta(max_length=256)]
_ForcedArms = Annotated[
    dict[_ForcedExperiment, Annotated[str, msgspec.Meta(max_length=256)]], msgspec.Meta(max_length=ENTRIES_MAX)
]

_MISSING = re.compile(r"Object missing required field `(?P<field>\w+)`")
_PATH = re.compile(r"(?P<fault>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?$", re.DOTALL)


class RecommendationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`unit_id` is the pseudonym of what is randomised. With an `idempotency_key`, a call for the same surface that is sent again
    is the same answer.

    `forced_arms` names arms by experiment, for quality assurance; it takes a key with `qa`, and no verdict counts the answer.
    """

    unit_id: _Unit
    surface: _Id
    k: int
    context: _Context = {}
    unit_type: _Id = "user"
    session_id: _Id | None = None
    traffic: Traffic = Traffic.LIVE
    forced_arms: _ForcedArms = {}
    idempotency_key: _Id | None = None


class InteractionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Client times are microseconds since 1970, by the client's clock. `position` counts from 0 at the top.

    With an `idempotency_key` it counts once, however often it is sent; the header's key stands for the whole call.
    """

    unit_id: _Unit
    surface: _Id
    item_id: _Id
    kind: _Id
    request_id: _Id | None = None
    position: _Position | None = None
    value: float | None = None
    client_occurred_at: _Time | None = None
    client_sent_at: _Time | None = None
    unit_type: _Id = "user"
    session_id: _Id | None = None
    traffic: Traffic = Traffic.LIVE
    idempotency_key: _Id | None = None


class RecommendedItem(msgspec.Struct, frozen=True):
    item_id: str
    position: int


class RecommendationResponse(msgspec.Struct, frozen=True):
    request_id: str
    items: Sequence[RecommendedItem]


class ErrorBody(msgspec.Struct, frozen=True):
    """`field` names the part of the request that is wrong, where there is one."""

    code: str
    message: str
    field: str | None = None


class RefusedInteraction(msgspec.Struct, frozen=True):
    """`index` counts from 0 in the order of the call."""

    index: int
    error: ErrorBody


class InteractionsResponse(msgspec.Struct, frozen=True):
    """`event_ids` in the order of the call, null for each interaction that stands in `refused`; the others are taken."""

    event_ids: Sequence[str | None]
    refused: Sequence[RefusedInteraction] = ()


class ErrorResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """`refused` has all the reasons where every interaction of a list was refused. `error`, and the status, are then of the first
    that may be sent again as it is (503), or else of the first.
    """

    error: ErrorBody
    refused: Sequence[RefusedInteraction] = ()


def parse_recommendation(body: bytes) -> RecommendationRequest:
    """Raises ApiError."""
    return _decode(body, RecommendationRequest, "")


def parse_interactions(body: bytes) -> list[InteractionRequest | ApiError]:
    """One interaction or a list, each with its fault where it has one. Raises ApiError where there is nothing to take."""
    raw = _decode(body, msgspec.Raw, "")
    if not bytes(raw).lstrip().startswith(b"["):
        return [_decode(bytes(raw), InteractionRequest, "")]
    parts = _decode(bytes(raw), list[msgspec.Raw], "")
    if not 1 <= len(parts) <= INTERACTIONS_MAX:
        raise ApiError(422, "wrong_count", f"a call has 1 to {INTERACTIONS_MAX} interactions, not {len(parts)}")
    return [_interaction(bytes(part), f"[{place}].") for place, part in enumerate(parts)]


def _interaction(body: bytes, prefix: str) -> InteractionRequest | ApiError:
    try:
        return _decode(body, InteractionRequest, prefix)
    except ApiError as error:
        return error


def _decode(body: bytes, kind: type[T], prefix: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), prefix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, "malformed_json", str(error)) from error


def _refusal(fault: str, prefix: str) -> ApiError:
    """What msgspec says of a field, as an answer."""
    if missing := _MISSING.match(fault):
        return ApiError(422, "missing_field", f"{prefix}{missing['field']} is missing", prefix + missing["field"])
    split = _PATH.match(fault)
    assert split is not None, "every text has a beginning"
    field = prefix + (split["path"] or "")
    return ApiError(422, "invalid_field", split["fault"], field.rstrip(".") or None)
