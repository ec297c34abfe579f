"""The HTTP interface: bodies in, answers out, and every refusal as JSON that says why.

`/healthz` is red when the process should be restarted, `/readyz` while it should get no requests. Neither looks at Kafka: a
broker that is away costs events, and taking the workers out of service for it would cost the answers too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.events import Event, Micros, RecommendationServed, RequestId, UnitId
from serving_worker.assignment import Asker
from serving_worker.errors import ApiError
from serving_worker.http.interactions import event_of, id_of_call
from serving_worker.http.messages import (
    ErrorBody,
    ErrorResponse,
    InteractionRequest,
    InteractionsResponse,
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    parse_interactions,
    parse_recommendation,
)
from serving_worker.metrics import WorkerMetrics
from serving_worker.recommend import Ask, Recommender

logger = logging.getLogger(__name__)

JSON = "application/json"
IDEMPOTENCY_KEY_CHARACTERS_MAX = 256

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    k_max: int
    body_bytes_max: int
    body_timeout_s: float


@dataclass(frozen=True, slots=True)
class Edge:
    """What the interface takes from outside: where events go, the time, new ids, and what stands in the way of being ready."""

    emit: Callable[[Event], bool]
    now_us: Callable[[], Micros]
    new_id: Callable[[], str]
    unready: Callable[[], Mapping[str, str]]


class Api:
    def __init__(
        self, recommender: Recommender, limits: ApiLimits, edge: Edge, metrics: WorkerMetrics, registry: CollectorRegistry
    ) -> None:
        self._recommender, self._limits, self._edge = recommender, limits, edge
        self._metrics, self._registry = metrics, registry

    def routes(self) -> list[Route]:
        return [
            Route("/v1/recommendations", self._measured("recommendations", self._recommend), methods=["POST"]),
            Route("/v1/interactions", self._measured("interactions", self._interact), methods=["POST"]),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._scrape),
        ]

    async def _recommend(self, request: Request) -> Response:
        message = parse_recommendation(await self._body(request))
        self._refuse_surface(message.surface)
        if not 1 <= message.k <= self._limits.k_max:
            raise ApiError(422, "k_out_of_range", f"k is {message.k}; it should be 1 to {self._limits.k_max}", "k")
        key = message.idempotency_key or _key_of(request)
        served = await self._recommender.recommend(self._ask(message, key))
        self._count(served)
        items = [RecommendedItem(slot.item_id, slot.position) for slot in served.slots]
        return _json(RecommendationResponse(served.request_id, items))

    async def _interact(self, request: Request) -> Response:
        messages = parse_interactions(await self._body(request))
        for place, message in enumerate(messages):
            self._refuse_surface(message.surface, f"[{place}]." if len(messages) > 1 else "")
        now = self._edge.now_us()
        events = [event_of(message, now, self._edge.new_id) for message in _with_keys(messages, _key_of(request))]
        for event in events:
            self._edge.emit(event)
        return _json(InteractionsResponse([event.event_id for event in events]), status=202)

    async def _health(self, _request: Request) -> Response:
        return _json({"alive": True})

    async def _ready(self, _request: Request) -> Response:
        unready = self._edge.unready()
        return _json({"ready": not unready, "unready": unready}, status=503 if unready else 200)

    async def _scrape(self, _request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _ask(self, message: RecommendationRequest, key: str | None) -> Ask:
        request_id = self._edge.new_id() if key is None else id_of_call("recommendation", message.unit_type, message.unit_id, key)
        asker = Asker(message.unit_type, UnitId(message.unit_id), message.surface, message.context)
        return Ask(RequestId(request_id), asker, message.k, message.traffic, message.session_id)

    def _refuse_surface(self, surface: str, prefix: str = "") -> None:
        if not self._recommender.knows(surface):
            raise ApiError(422, "unknown_surface", f"there is no surface {surface!r} in the catalogue", f"{prefix}surface")

    def _count(self, served: RecommendationServed) -> None:
        if served.degraded is not None:
            self._metrics.degraded.labels(served.degraded).inc()
        for assignment in served.assignments:
            if assignment.exposed:
                self._metrics.exposures.labels(assignment.experiment_id, assignment.arm).inc()

    async def _body(self, request: Request) -> bytes:
        """The body, never more of it than the limit. Raises ApiError."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise ApiError(415, "unsupported_media_type", f"the body should be {JSON}, and the content-type say so")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limits.body_bytes_max:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._limits.body_bytes_max:
                        raise self._too_large()
        except TimeoutError as error:
            raise ApiError(408, "body_timeout", f"the body took longer than {self._limits.body_timeout_s} s") from error
        return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, "body_too_large", f"the body is larger than {self._limits.body_bytes_max} bytes")

    def _measured(self, route: str, answer: Endpoint) -> Endpoint:
        async def measured(request: Request) -> Response:
            started = time.monotonic()
            response = await _refusals_as_answers(answer, request)
            self._metrics.latency.labels(route).observe(time.monotonic() - started)
            self._metrics.requests.labels(route, str(response.status_code)).inc()
            return response

        return measured


async def refuse_http(_request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method) in our form."""
    assert isinstance(error, HTTPException), "registered for HTTPException"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    response = _error(ApiError(error.status_code, code, error.detail))
    response.headers.update(error.headers or {})
    return response


async def _refusals_as_answers(answer: Endpoint, request: Request) -> Response:
    try:
        return await answer(request)
    except ApiError as error:
        return _error(error)
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


def _with_keys(messages: list[InteractionRequest], key: str | None) -> list[InteractionRequest]:
    """The header's key stands for the whole call: an interaction without a key of its own has it, and its place in the call."""
    if key is None:
        return messages
    return [
        message if message.idempotency_key else msgspec.structs.replace(message, idempotency_key=f"{key}\0{place}")
        for place, message in enumerate(messages)
    ]


def _error(error: ApiError) -> Response:
    return _json(ErrorResponse(ErrorBody(error.code, error.message, error.field)), status=error.status)


def _json(message: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(message), status_code=status, media_type=JSON)
