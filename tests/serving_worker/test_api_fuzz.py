"""The interface fuzzed from its own OpenAPI document: whatever comes, an answer that the document describes, and no 5xx."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok
from starlette.applications import Starlette

from producers.emitter import Emitter
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from serving_worker.config import WorkerSettings
from serving_worker.main import build_app, load
from tests.producers.event_samples import KnownSchemaIds

CATALOGUE = {"surfaces": {"home": {"items": [{"item_id": item} for item in "abcd"]}}}
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


class Fuzzed:
    def __init__(self, app: Starlette, emitter: Emitter, transport: MemoryTransport) -> None:
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
    yield Fuzzed(build_app(settings, load(settings), emitter), emitter, transport)
    emitter.close(5.0)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_whatever_comes_is_answered_as_the_document_says_and_no_event_is_lost(
    fuzzed: Fuzzed, mode: schemathesis.GenerationMode
) -> None:
    document = schemathesis.openapi.from_asgi("/openapi.json", fuzzed.app)
    operations = [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]
    cases = [operation.as_strategy(generation_mode=mode) for operation in operations]
    assert len(cases) == 4

    @settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=one_of(cases))
    def answered(case: "schemathesis.Case[Any]") -> None:
        response = case.call_and_validate(checks=list(CHECKS))
        fuzzed.note(case.path, response.status_code, response.json())

    answered()
    status = fuzzed.emitter.close(10.0)
    assert fuzzed.taken > 0 or mode is schemathesis.GenerationMode.NEGATIVE
    assert sum(topic.acknowledged for topic in status.topics) == fuzzed.taken
