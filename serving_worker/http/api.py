"""The HTTP interface: bodies in, answers out, and every refusal as JSON that says why.

`/healthz` is red when the process should be restarted, `/readyz` while it should get no requests. Neither looks at Kafka: a
broker that is away costs events, and taking the workers out of service for it would cost the answers too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, Counter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.events import Event, Micros, RequestId
from serving_worker.capacity import RETRY_AFTER_S
from serving_worker.errors import ApiError, Shed
from serving_worker.experiments.assignment import Asker
from serving_worker.http.access_log import Call, tell
from serving_worker.http.interactions import InteractionIds, event_of, id_of_recommendation, unit_of
from serving_worker.http.keys import ApiKey, Keys, refuse_forcing, refuse_surface
from serving_worker.http.messages import (
    ErrorBody,
    ErrorResponse,
    InteractionRequest,
    InteractionsResponse,
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    RefusedInteraction,
    parse_interactions,
    parse_recommendation,
)
from serving_worker.http.openapi import openapi
from serving_worker.metrics import HttpMetrics
from serving_worker.recommend import Ask, Recommender

logger = logging.getLogger(__name__)

JSON = "application/json"
IDEMPOTENCY_KEY_CHARACTERS_MAX = 256

Endpoint = Callable[[Request, Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    surfaces: tuple[str, ...]
    k_max: int
    body_bytes_max: int
    body_timeout_s: float


@dataclass(frozen=True, slots=True)
class Edge:
    """What the interface takes from outside: where events go, the time, new ids, what stands in the way of being ready, and the
    metrics' text, of all processes that share the address.
    """

    emit: Callable[[Event], bool]
    now_us: Callable[[], Micros]
    new_id: Callable[[], str]
    unready: Callable[[], Mapping[str, str]]
    exposition: Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class _Intake:
    """What one call's interactions have in common. Once it is `full` none of the rest is taken, so that of interactions that are
    alike the last ones are refused: that is what their ids are numbered for.
    """

    key: ApiKey
    ids: InteractionIds
    now: Micros
    full: bool = False


class Api:
    def __init__(self, recommender: Recommender, limits: ApiLimits, keys: Keys, edge: Edge, metrics: HttpMetrics) -> None:
        self._recommender, self._limits, self._keys = recommender, limits, keys
        self._edge, self._metrics = edge, metrics
        self._document = msgspec.json.encode(openapi(keys, limits.k_max, limits.surfaces))

    def routes(self) -> list[Route]:
        return [
            Route("/v1/recommendations", self._measured("recommendations", self._recommend), methods=["POST"]),
            Route("/v1/interactions", self._measured("interactions", self._interact), methods=["POST"]),
            Route("/openapi.json", self._describe),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._scrape),
        ]

    async def _recommend(self, request: Request, call: Call) -> Response:
        key = self._key(request, call)
        message = parse_recommendation(await self._body(request, call))
        self._refuse_surface(message.surface, key)
        refuse_forcing(key, message.forced_arms)
        if not 1 <= message.k <= self._limits.k_max:
            raise ApiError(422, "k_out_of_range", f"k is {message.k}; it should be 1 to {self._limits.k_max}", "k")
        served = await self._recommender.recommend(self._ask(message, message.idempotency_key or _key_of(request)))
        call.request_id = served.request_id
        items = [RecommendedItem(slot.item_id, slot.position) for slot in served.slots]
        return _json(RecommendationResponse(served.request_id, items))

    async def _interact(self, request: Request, call: Call) -> Response:
        key = self._key(request, call)
        messages = parse_interactions(await self._body(request, call))
        right = [message for message in messages if not isinstance(message, ApiError)]
        intake = _Intake(key, InteractionIds(right, _key_of(request), self._edge.new_id), self._edge.now_us())
        taken = [self._take(message, intake) for message in messages]
        faults = [(place, error) for place, error in enumerate(taken) if isinstance(error, ApiError)]
        refused = [RefusedInteraction(place, _body_of(error)) for place, error in faults]
        if len(faults) == len(taken):
            return _error(_foremost([error for _, error in faults]), refused if len(refused) > 1 else ())
        return _json(InteractionsResponse([None if isinstance(one, ApiError) else one for one in taken], refused), status=202)

    def _take(self, message: InteractionRequest | ApiError, intake: _Intake) -> str | ApiError:
        """The id under which the interaction is emitted, or why it is not."""
        if isinstance(message, ApiError):
            return message
        try:
            self._refuse_surface(message.surface, intake.key)
        except ApiError as error:
            return error
        event = event_of(message, intake.ids.next(message), intake.now)
        intake.full = intake.full or not self._edge.emit(event)
        if intake.full:
            return ApiError(503, "overloaded", "the worker cannot take it now; send it again")
        return event.event_id

    async def _describe(self, _request: Request) -> Response:
        return Response(self._document, media_type=JSON)

    async def _health(self, _request: Request) -> Response:
        return _json({"alive": True})

    async def _ready(self, _request: Request) -> Response:
        unready = self._edge.unready()
        return _json({"ready": not unready, "unready": unready}, status=503 if unready else 200)

    async def _scrape(self, _request: Request) -> Response:
        return Response(await self._edge.exposition(), media_type=CONTENT_TYPE_LATEST)

    def _key(self, request: Request, call: Call) -> ApiKey:
        key = self._keys.of(request.headers.get("authorization"))
        call.key = key.name
        return key

    def _ask(self, message: RecommendationRequest, key: str | None) -> Ask:
        request_id = RequestId(self._edge.new_id()) if key is None else id_of_recommendation(message, key)
        asker = Asker(message.unit_type, unit_of(message.unit_id), message.surface, message.context, message.forced_arms)
        return Ask(request_id, asker, message.k, message.traffic, message.session_id)

    def _refuse_surface(self, surface: str, key: ApiKey) -> None:
        refuse_surface(key, surface)
        if not self._recommender.knows(surface):
            raise ApiError(422, "unknown_surface", f"there is no surface {surface!r} in the catalogue", "surface")

    async def _body(self, request: Request, call: Call) -> bytes:
        """The body, never more of it than the limit. Raises ApiError."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise ApiError(415, "unsupported_media_type", f"the body should be {JSON}, and the content-type say so")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limits.body_bytes_max:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                while True:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    body += message.get("body", b"")
                    if len(body) > self._limits.body_bytes_max:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise ApiError(408, "body_timeout", f"the body took longer than {self._limits.body_timeout_s} s") from error
        call.bytes_in = len(body)
        return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, "body_too_large", f"the body is larger than {self._limits.body_bytes_max} bytes")

    def _measured(self, route: str, answer: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        latency, answered = self._metrics.latency.labels(route), dict[int, Counter]()

        async def measured(request: Request) -> Response:
            started, call = time.monotonic(), Call()
            response = await _refusals_as_answers(answer, request, call)
            took_s, status = time.monotonic() - started, response.status_code
            latency.observe(took_s)
            if (counted := answered.get(status)) is None:  # finding a labelled counter costs more than counting
                counted = answered[status] = self._metrics.requests.labels(route, str(status))
            counted.inc()
            tell(route, status, took_s, call, len(response.body))
            return response

        return measured


async def refuse_http(_request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method) in our form."""
    assert isinstance(error, HTTPException), "registered for HTTPException"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    response = _error(ApiError(error.status_code, code, error.detail))
    response.headers.update(error.headers or {})
    return response


async def _refusals_as_answers(answer: Endpoint, request: Request, call: Call) -> Response:
    try:
        return await answer(request, call)
    except ApiError as error:
        return _error(error)
    except Shed as shed:
        return _error(ApiError(503, "overloaded", str(shed)), retry_after_s=shed.retry_after_s)
    except ClientDisconnect:
        return _error(ApiError(400, "disconnected", "the client went away before its body was complete"))
    except Exception:
        logger.exception("%s failed", request.url.path)
        return _error(ApiError(500, "internal", "the worker failed; its log says why"))


def _key_of(request: Request) -> str | None:
    key = request.headers.get("idempotency-key", "").strip()
    if len(key) > IDEMPOTENCY_KEY_CHARACTERS_MAX:
        raise ApiError(
            422, "invalid_field", f"the key is longer than {IDEMPOTENCY_KEY_CHARACTERS_MAX} characters", "Idempotency-Key"
        )
    return key or None


def _foremost(errors: Sequence[ApiError]) -> ApiError:
    """Whose status is the whole call's: a client that goes by it must send again what was only refused for load."""
    return next((error for error in errors if error.status == 503), errors[0])


def _body_of(error: ApiError) -> ErrorBody:
    return ErrorBody(error.code, error.message, error.field)


def _error(error: ApiError, refused: Sequence[RefusedInteraction] = (), *, retry_after_s: int = RETRY_AFTER_S) -> Response:
    response = _json(ErrorResponse(_body_of(error), refused), status=error.status)
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if error.status == 503:
        response.headers["retry-after"] = str(retry_after_s)
    return response


def _json(message: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(message), status_code=status, media_type=JSON)
