"""From an interaction's message to its event, and the ids of calls that may be sent again."""

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
import uuid_utils

from schemas.events import EventId, Interaction, ItemId, Micros, RequestId, UnitId
from serving_worker.http.messages import InteractionRequest, RecommendationRequest

_CALLS = uuid_utils.UUID("6d2f6f52-7e0c-5b8a-9a44-1f0c2b9d7e31")
"""The namespace of ids that are derived from idempotency keys."""


def unit_of(raw: str) -> UnitId:
    """White space alone names nobody."""
    return UnitId(raw if raw.strip() else "")


def id_of_recommendation(request: RecommendationRequest, key: str) -> RequestId:
    """One key may ask for several surfaces of a page: each is a call of its own."""
    return RequestId(_derived("recommendation", key, request.unit_type, request.unit_id, request.surface))


class InteractionIds:
    """The ids of the interactions of one call.

    The header's key stands for the call, so an id under it covers what makes an interaction that interaction, not its place:
    the whole list sent again has the ids that it had, and so has its refused end. Those of one call that are alike in all of
    that are told apart by how many alike come after them. A key of an interaction's own stands for that one, however often it
    is in a call.
    """

    def __init__(self, requests: Iterable[InteractionRequest], call_key: str | None, new_id: Callable[[], str]) -> None:
        self._call_key, self._new_id = call_key, new_id
        self._to_come = Counter(_identity_of(request) for request in requests if request.idempotency_key is None)

    def next(self, request: InteractionRequest) -> EventId:
        """Of each in the order of the call."""
        identity = _identity_of(request)
        if request.idempotency_key is not None:
            return EventId(_derived("interaction", request.idempotency_key, *identity))
        if self._call_key is None:
            return EventId(self._new_id())
        self._to_come[identity] -= 1
        return EventId(_derived("interaction of a call", self._call_key, *identity, self._to_come[identity]))


def _identity_of(request: InteractionRequest) -> tuple[object, ...]:
    """Without `value` and `client_sent_at`, which may be other ones when it is sent again."""
    unit, what = (request.unit_type, request.unit_id), (request.surface, request.item_id, request.kind)
    return (*unit, *what, request.request_id, request.position, request.client_occurred_at)


def _derived(*parts: object) -> str:
    """JSON, since a text may hold whatever would stand between two of them."""
    return str(uuid_utils.uuid5(_CALLS, msgspec.json.encode(parts).decode()))


def event_of(request: InteractionRequest, event_id: EventId, now: Micros) -> Interaction:
    return Interaction(
        event_id=event_id,
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
