"""The interface fuzzed from its own OpenAPI document: whatever comes, an answer in time, as described, and no 5xx."""

import asyncio
import hashlib
import json
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of, sampled_from
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.emitter import Emitter
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from serving_worker.config import WorkerSettings
from serving_worker.main import build_app, load
from tests.producers.event_samples import KnownSchemaIds
from tests.serving_worker.serve_process import Serve, serving, url_of

CATALOGUE = {"surfaces": {"home": {"items": [{"item_id": item} for item in "abcd"]}}}
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
CASE_LIMIT_S = 10
"""Of one request, on a machine however slow: what has not been answered by then hangs."""
CASES = settings(
    max_examples=250, deadline=timedelta(seconds=CASE_LIMIT_S), database=None, suppress_health_check=list(HealthCheck)
)


def in_time(app: ASGIApp) -> ASGIApp:
    """A request that hangs fails."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.timeout(CASE_LIMIT_S if scope["type"] == "http" else None):
            await app(scope, receive, send)

    return limited


def cases_of(document: Any, mode: schemathesis.GenerationMode) -> list[Any]:
    operations = [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == 4
    return [operation.as_strategy(generation_mode=mode) for operation in operations]


class Fuzzed:
    def __init__(self, app: ASGIApp, emitter: Emitter, transport: MemoryTransport) -> None:
        self.app, self.emitter, self.transport = app, emitter, transport
        self.taken = 0
        """Events of which a client was told that they are taken."""

    def note(self, path: str, status: int, body: Any) -> None:
        if status == 200 and path == "/v1/recommendations":
            self.taken += 1
        if status == 202:
            self.taken += sum(each is not None for each in body["event_ids"])


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
    transport = MemoryTransport()
    emitter = Emitter(transport, KnownSchemaIds(), now_us=now_us, new_id=new_id)
    settings = WorkerSettings(catalogue)
    yield Fuzzed(in_time(build_app(settings, load(settings), emitter)), emitter, transport)
    emitter.close(5.0)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_whatever_comes_is_answered_as_the_document_says_and_no_event_is_lost(
    fuzzed: Fuzzed, mode: schemathesis.GenerationMode
) -> None:
    cases = cases_of(schemathesis.openapi.from_asgi("/openapi.json", fuzzed.app), mode)

    @CASES
    @given(case=one_of(cases))
    def answered(case: "schemathesis.Case[Any]") -> None:
        response = case.call_and_validate(checks=list(CHECKS))
        fuzzed.note(case.path, response.status_code, response.json())

    answered()
    status = fuzzed.emitter.close(10.0)
    assert fuzzed.taken > 0 or mode is schemathesis.GenerationMode.NEGATIVE
    assert sum(topic.acknowledged for topic in status.topics) == fuzzed.taken


KEYS: dict[str, dict[str, object]] = {"shop": {}, "quality": {"qa": True}, "elsewhere": {"surfaces": ["attic"]}}
AUTHORIZATIONS = (None, "Basic c2hvcA==", "Bearer nobody", *(f"Bearer {name}" for name in KEYS))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **rights} for name, rights in KEYS.items()]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": keys}), encoding="utf-8")
    with serving(tmp_path) as start:
        limits = {"TAILRACE_HTTP_BODY_BYTES_MAX": "200000", "TAILRACE_HTTP_HEAD_TIMEOUT_MS": str(6_000 * CASE_LIMIT_S)}
        yield lambda: start("--port", "0", TAILRACE_API_KEYS_FILE=str(file), **limits)


def status_under(url: str, key: str | None) -> int:
    """Of a request that is well, but for its key."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    ask = {"unit_id": "u", "surface": "home", "k": 1}
    return httpx2.post(f"{url}/v1/recommendations", json=ask, headers=headers, timeout=CASE_LIMIT_S).status_code


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_a_worker_with_keys_answers_over_its_socket_whatever_comes_and_ends_in_good_order(
    serve: Serve, mode: schemathesis.GenerationMode
) -> None:
    process = serve()
    url = url_of(process)
    assert [status_under(url, key) for key in (None, "nobody", "elsewhere", "shop")] == [401, 401, 403, 200]
    cases = cases_of(schemathesis.openapi.from_url(f"{url}/openapi.json"), mode)

    @settings(CASES, max_examples=120)
    @given(case=one_of(cases), authorization=sampled_from(AUTHORIZATIONS))
    def answered(case: "schemathesis.Case[Any]", authorization: str | None) -> None:
        case.headers.pop("Authorization", None)
        named = {} if authorization is None else {"Authorization": authorization}
        case.call_and_validate(headers=named, checks=list(CHECKS), timeout=CASE_LIMIT_S)

    answered()
    assert httpx2.get(f"{url}/healthz", timeout=CASE_LIMIT_S).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in log


HEAD = b"POST /v1/interactions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer shop\r\ncontent-type: application/json\r\n"
CHUNKS = (b"186a0\r\n" + b" " * 100_000 + b"\r\n") * 3
RAW = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    "another version": (b"GET /healthz HTTP/7.3\r\nhost: x\r\n\r\n", b"400"),
    "no length that there is": (HEAD + b"content-length: -1\r\n\r\n{}", b"400"),
    "two lengths": (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{} ", b"400"),
    "a length and chunks": (HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    "a chunk without an end": (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "a large body": (HEAD + b"content-length: 200000\r\n\r\n[" + b" " * 199_998 + b"]", b"422"),
    "a large length": (HEAD + b"content-length: 200001\r\n\r\n", b"413"),
    "many chunks": (HEAD + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS, b"413"),
    "a key that is no text": (HEAD.replace(b"shop", b"\xff\xfe") + b"content-length: 2\r\n\r\n{}", b"401"),
    "a head without an end": (HEAD + b"x: " + b"x" * 1_000_000, None),
    "headers without an end": (HEAD + b"x: x\r\n" * 100_000, None),
}


def test_what_no_client_sends_is_refused_in_time_and_the_next_one_is_answered(serve: Serve) -> None:
    url = httpx2.URL(url_of(serve()))
    for name, (sent, status) in RAW.items():
        with socket.create_connection((url.host, url.port or 0), timeout=CASE_LIMIT_S) as connection:
            assert answer_to(connection, sent) == status, name
        assert httpx2.get(f"{url}/healthz", timeout=CASE_LIMIT_S).status_code == 200


def answer_to(connection: socket.socket, sent: bytes) -> bytes | None:
    """The status; None where the connection was closed without an answer."""
    try:
        connection.sendall(sent)
        answer = connection.recv(65_536)
    except ConnectionError:
        return None
    return answer.split(b" ")[1] if answer else None
