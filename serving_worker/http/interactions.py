"""From an interaction's message to its event, and the ids of calls that may be sent again."""

from collections.abc import Callable

import uuid_utils

from schemas.events import EventId, Interaction, ItemId, Micros, RequestId, UnitId
from serving_worker.http.messages import InteractionRequest

_CALLS = uuid_utils.UUID("6d2f6f52-7e0c-5b8a-9a44-1f0c2b9d7e31")
"""The namespace of ids that are derived from idempotency keys."""


def unit_of(raw: str) -> UnitId:
    """White space alone names nobody."""
    return UnitId(raw if raw.strip() else "")


def id_of_call(what: str, unit_type: str, unit_id: str, key: str) -> str:
    """The id of a call of a unit under an idempotency key: the same, however often it is sent."""
    return str(uuid_utils.uuid5(_CALLS, f"{what}\0{unit_type}\0{unit_id}\0{key}"))


def event_of(request: InteractionRequest, now: Micros, new_id: Callable[[], str]) -> Interaction:
    key = request.idempotency_key
    event_id = new_id() if key is None else id_of_call("interaction", request.unit_type, request.unit_id, key)
    return Interaction(
        event_id=EventId(event_id),
        occurred_at=now,
        unit_type=request.unit_type,
        unit_id=unit_of(request.unit_id),
        session_id=request.session_id,
        traffic=request.traffic,
        request_id=None if request.request_id is None else RequestId(request.request_id),
        surface=request.surface,
        item_id=ItemId(request.item_id),
        position=request.position,
        kind=request.kind,
        value=request.value,
        client_occurred_at=None if request.client_occurred_at is None else Micros(request.client_occurred_at),
        client_sent_at=None if request.client_sent_at is None else Micros(request.client_sent_at),
    )
