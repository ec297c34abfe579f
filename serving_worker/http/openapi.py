"""The interface's OpenAPI document, made of the messages' types, so that the two cannot disagree."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from serving_worker.http.keys import Keys
from serving_worker.http.messages import (
    INTERACTIONS_MAX,
    ErrorResponse,
    InteractionRequest,
    InteractionsResponse,
    RecommendationRequest,
    RecommendationResponse,
)

_TYPES = (RecommendationRequest, RecommendationResponse, InteractionRequest, InteractionsResponse, ErrorResponse)
_REF = "#/components/schemas/{name}"
_ANSWER_KEY = "A call of a unit for a surface counts once under its key, and is answered alike, however often it is sent."
_TAKE_KEY = (
    "After a 503, after no answer, or where some of a list were refused: send the whole list again under the same key, or all "
    "that was refused of it, in the same order. Each interaction counts once, by the key and its unit_type, unit_id, surface, "
    "item_id, kind, request_id, position and client_occurred_at, wherever it stands; value and client_sent_at may be other ones. "
    "Those of one call that are alike in all of these are that many interactions. Where an interaction may be sent again in "
    "another call, under another key, it needs an idempotency_key of its own."
)
_REFUSALS = {
    400: "The body is not JSON.",
    401: "The API key is missing or unknown.",
    403: "The API key may not ask for this.",
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The body does not say that it is JSON.",
    422: "The body is not what it should be; `field` says where.",
    503: "Too much to do, or the worker is going down: try again after Retry-After seconds. "
    "Of a list, `refused` may name some that are wrong as well.",
}


def openapi(keys: Keys, k_max: int, surfaces: Sequence[str]) -> dict[str, Any]:
    (ask, answer, interaction, taken, _), schemas = msgspec.json.schema_components(
        _TYPES, ref_template="#/components/schemas/{name}"
    )
    schemas["RecommendationRequest"]["properties"]["k"] |= {"minimum": 1, "maximum": k_max}
    for name in ("RecommendationRequest", "InteractionRequest"):
        schemas[name]["properties"]["surface"] = {"enum": list(surfaces)}
    several = {"type": "array", "items": interaction, "minItems": 1, "maxItems": INTERACTIONS_MAX}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Tailrace serving worker", "version": "1"},
        "paths": {
            "/v1/recommendations": {"post": _post("Recommend items.", _ANSWER_KEY, ask, {200: ("The answer.", answer)})},
            "/v1/interactions": {
                "post": _post(
                    "Take in what units did; of a list, what is right is taken and the rest named.",
                    _TAKE_KEY,
                    {"oneOf": [interaction, several]},
                    {202: ("Taken, all or in part.", taken)},
                )
            },
            "/healthz": {"get": _get("Red when the process should be restarted.", 200)},
            "/readyz": {"get": _get("Red while it should get no requests.", 200, 503)},
        },
        "components": {"schemas": schemas},
    }
    if keys.required:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _post(
    summary: str, resending: str, body: Mapping[str, Any], answers: Mapping[int, tuple[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    refusals = {code: (text, {"$ref": "#/components/schemas/ErrorResponse"}) for code, text in _REFUSALS.items()}
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 256}}
    return {
        "summary": summary,
        "parameters": [{**key, "description": resending}],
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {str(code): _answer(text, schema) for code, (text, schema) in {**answers, **refusals}.items()},
    }


def _get(summary: str, *codes: int) -> dict[str, Any]:
    return {"summary": summary, "responses": {str(code): _answer(summary, {"type": "object"}) for code in codes}}


def _answer(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": _json(schema)}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
