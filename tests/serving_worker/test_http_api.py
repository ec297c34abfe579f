"""The HTTP interface as a client sees it."""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.experiment_log import ExperimentLog
from producers.memory_transport import MemoryTransport
from serving_worker.config import ExperimentSettings
from tests.schemas.experiment_samples import DOCUMENT
from tests.serving_worker.api_worker import ASK, CLICK, StartWorker, refusal, workers
from tests.waiting import eventually


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    with workers(tmp_path) as start:
        yield start


def test_a_recommendation_is_answered_and_emitted(start_worker: StartWorker) -> None:
    worker = start_worker(context_keys=frozenset({"country"}))
    answer = worker.post("recommendations", {**ASK, "context": {"country": "fr"}, "traffic": "simulated", "session_id": "s"})
    assert answer.status_code == 200
    assert answer.json()["items"] == [{"item_id": item, "position": place} for place, item in enumerate("abc")]
    (served,) = worker.recommendations()
    assert {str(served.request_id), str(served.event_id)} == {str(uuid.UUID(answer.json()["request_id"]))}
    assert (served.unit_type, served.unit_id, served.traffic, served.session_id) == ("user", "unit-1", "simulated", "s")
    assert served.context == {"country": "fr"}
    assert served.latency_us is not None
    assert served.latency_us >= 0


def test_an_interaction_is_taken_and_emitted(start_worker: StartWorker) -> None:
    worker = start_worker()
    body = {**CLICK, "request_id": "r", "position": 2, "value": 1.5, "client_occurred_at": 5, "client_sent_at": 6}
    answer = worker.post("interactions", body)
    assert answer.status_code == 202
    (event,) = worker.interactions()
    assert [event.event_id] == answer.json()["event_ids"]
    assert (event.item_id, event.kind, event.request_id, event.position, event.value) == ("a", "click", "r", 2, 1.5)
    assert (event.client_occurred_at, event.client_sent_at) == (5, 6)


def test_a_list_of_interactions_is_taken_whole(start_worker: StartWorker) -> None:
    worker = start_worker()
    answer = worker.post("interactions", [{**CLICK, "item_id": item} for item in "abc"])
    events = worker.interactions()
    assert [event.item_id for event in events] == ["a", "b", "c"]
    assert [event.event_id for event in events] == answer.json()["event_ids"]


def test_of_a_list_what_is_right_is_taken_and_the_rest_named_by_its_index(start_worker: StartWorker) -> None:
    worker = start_worker()
    answer = worker.post("interactions", [CLICK, {**CLICK, "kind": 7}, {**CLICK, "surface": "attic"}, {**CLICK, "item_id": "b"}])
    events = worker.interactions()
    assert answer.status_code == 202
    assert answer.json()["event_ids"] == [events[0].event_id, None, None, events[1].event_id]
    assert [event.item_id for event in events] == ["a", "b"]
    named = [(one["index"], one["error"]["code"], one["error"]["field"]) for one in answer.json()["refused"]]
    assert named == [(1, "invalid_field", "[1].kind"), (2, "unknown_surface", "surface")]


def test_a_list_without_a_right_interaction_is_refused_with_every_reason(start_worker: StartWorker) -> None:
    worker = start_worker()
    answer = worker.post("interactions", [{**CLICK, "kind": 7}, {**CLICK, "position": -1}])
    assert refusal(answer) == (422, "invalid_field", "[0].kind")
    assert [one["error"]["field"] for one in answer.json()["refused"]] == ["[0].kind", "[1].position"]
    assert worker.interactions() == []


def test_an_interaction_that_the_emitter_cannot_take_is_to_be_sent_again(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.emitter.close(1.0)
    answer = worker.post("interactions", CLICK)
    assert refusal(answer) == (503, "overloaded", None)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("unit", ["", "  "])
def test_nobody_is_answered_too_and_what_nobody_does_is_taken(start_worker: StartWorker, unit: str) -> None:
    worker = start_worker()
    assert worker.post("recommendations", {**ASK, "unit_id": unit}).status_code == 200
    assert worker.post("interactions", {**CLICK, "unit_id": unit}).status_code == 202
    assert [served.unit_id for served in worker.recommendations()] == [""]
    assert [event.unit_id for event in worker.interactions()] == [""]


@pytest.mark.parametrize("body", [[], [CLICK] * 501])
def test_a_list_is_neither_empty_nor_endless(start_worker: StartWorker, body: list[object]) -> None:
    assert refusal(start_worker().post("interactions", body)) == (422, "wrong_count", None)


@pytest.mark.parametrize("field", ["item_id", "kind", "request_id", "unit_type", "session_id", "unit_id", "idempotency_key"])
def test_no_text_of_an_interaction_is_without_a_limit(start_worker: StartWorker, field: str) -> None:
    worker = start_worker()
    assert worker.post("interactions", {**CLICK, field: "x" * 256}).status_code == 202
    assert refusal(worker.post("interactions", {**CLICK, field: "x" * 257})) == (422, "invalid_field", field)


def test_every_text_of_a_request_has_its_limit_in_the_document(start_worker: StartWorker) -> None:
    schemas = start_worker().client.get("/openapi.json").json()["components"]["schemas"]

    def unlimited(part: Any) -> Iterator[object]:
        if isinstance(part, dict):
            if part.get("type") == "string" and "maxLength" not in part and "enum" not in part:
                yield part
            if (
                part.get("type") == "object"
                and "properties" not in part
                and not {"maxProperties", "propertyNames"} <= part.keys()
            ):
                yield part
        for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from unlimited(below)

    assert [*unlimited([schemas["RecommendationRequest"], schemas["InteractionRequest"]])] == []


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({**ASK, "unit_id": None}, 422, "invalid_field", "unit_id"),
        ({**ASK, "unit_id": "u" * 257}, 422, "invalid_field", "unit_id"),
        ({"surface": "home", "k": 3}, 422, "missing_field", "unit_id"),
        ({"unit_id": "u", "surface": "home"}, 422, "missing_field", "k"),
        ({**ASK, "surface": "attic"}, 422, "unknown_surface", "surface"),
        ({**ASK, "k": 0}, 422, "k_out_of_range", "k"),
        ({**ASK, "k": 101}, 422, "k_out_of_range", "k"),
        ({**ASK, "k": "3"}, 422, "invalid_field", "k"),
        ({**ASK, "traffic": "strange"}, 422, "invalid_field", "traffic"),
        ({**ASK, "context": {"a": 1}}, 422, "invalid_field", "context[...]"),
        ({**ASK, "context": {"a": "x" * 513}}, 422, "invalid_field", "context[...]"),
        ({**ASK, "context": {"x" * 129: "a"}}, 422, "invalid_field", "context"),
        ({**ASK, "context": {str(number): "a" for number in range(65)}}, 422, "invalid_field", "context"),
        ({**ASK, "forced_arms": {"a": "x" * 257}}, 422, "invalid_field", "forced_arms[...]"),
        ({**ASK, "forced_arms": {"x" * 257: "a"}}, 422, "invalid_field", "forced_arms"),
        ({**ASK, "session_id": "x" * 257}, 422, "invalid_field", "session_id"),
        ([ASK], 422, "invalid_field", None),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    start_worker: StartWorker, body: object, status: int, code: str, field: str | None
) -> None:
    worker = start_worker()
    assert refusal(worker.post("recommendations", body)) == (status, code, field)
    assert worker.recommendations() == []


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b'{"unit_id": "\xff"}', b'{"unit_id": "\\ud800"}'])
@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/interactions"])
def test_what_is_not_json_is_refused(start_worker: StartWorker, path: str, body: bytes) -> None:
    answer = start_worker().client.post(path, content=body, headers={"content-type": "application/json"})
    assert refusal(answer) == (400, "malformed_json", None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_another_content_type_is_refused(start_worker: StartWorker, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = start_worker().client.post("/v1/recommendations", content=json.dumps(ASK).encode(), headers=headers)
    assert refusal(answer) == (415, "unsupported_media_type", None)


def test_a_body_that_declares_too_much_is_refused_unread(start_worker: StartWorker) -> None:
    answer = start_worker(body_bytes_max=1_000).client.post(
        "/v1/recommendations", content=b"", headers={"content-type": "application/json", "content-length": "1001"}
    )
    assert refusal(answer) == (413, "body_too_large", None)


def test_a_body_that_grows_too_large_is_cut_off(start_worker: StartWorker) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b" " * 400 for _ in range(10))

    client = start_worker(body_bytes_max=1_000).client
    answer = client.post("/v1/recommendations", content=chunks(), headers={"content-type": "application/json"})
    assert refusal(answer) == (413, "body_too_large", None)


def test_wrong_methods_and_paths_are_refused_in_json(start_worker: StartWorker) -> None:
    client = start_worker().client
    wrong_method = client.get("/v1/recommendations")
    assert refusal(wrong_method) == (405, "method_not_allowed", None)
    assert wrong_method.headers["allow"] == "POST"
    assert refusal(client.get("/v2/recommendations")) == (404, "not_found", None)


def test_a_broker_that_takes_nothing_changes_no_answer(start_worker: StartWorker) -> None:
    worker = start_worker(MemoryTransport(records_max=1, reachable=False))
    answers = [worker.post("recommendations", ASK) for _ in range(50)]
    assert {answer.status_code for answer in answers} == {200}
    assert worker.client.get("/readyz").status_code == 200


def test_a_worker_whose_emitter_is_gone_still_answers_and_is_not_ready(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.emitter.close(1.0)
    assert worker.post("recommendations", ASK).status_code == 200
    assert worker.client.get("/healthz").status_code == 200
    ready = worker.client.get("/readyz")
    assert (ready.status_code, list(ready.json()["unready"])) == (503, ["emitter"])


def test_a_worker_without_a_good_file_of_experiments_answers_and_is_not_ready(start_worker: StartWorker, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments.json"
    experiments.write_text("[", encoding="utf-8")
    worker = start_worker(experiments=ExperimentSettings(experiments, reload_s=0.01))
    assert worker.post("recommendations", ASK).status_code == 200
    assert list(worker.client.get("/readyz").json()["unready"]) == ["experiments"]
    experiments.write_text("[]", encoding="utf-8")
    deadline = time.monotonic() + 5.0
    while worker.client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
        pass
    assert worker.client.get("/readyz").json() == {"ready": True, "unready": {}}


def test_no_file_of_experiments_keeps_a_worker_from_coming_up_or_from_looking_again(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    experiments = tmp_path / "experiments.json"
    experiments.write_text("[" * 1_000_000, encoding="utf-8")
    worker = start_worker(experiments=ExperimentSettings(experiments, reload_s=0.01))
    assert worker.post("recommendations", ASK).status_code == 200
    assert "RecursionError" in worker.client.get("/readyz").json()["unready"]["experiments"]
    assert 'tailrace_serving_worker_experiments_reloads_total{result="bad"} 1.0' in worker.client.get("/metrics").text
    experiments.write_text("[]", encoding="utf-8")
    assert eventually(lambda: worker.client.get("/readyz").status_code == 200, 30)


def test_a_worker_that_cannot_have_the_experiments_followed_counts_it_and_answers(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    def open_log() -> ExperimentLog:
        raise NotImplementedError

    worker = start_worker(open_log=open_log, experiments=ExperimentSettings(snapshot=tmp_path / "nowhere" / "experiments"))
    failures = "tailrace_serving_worker_experiments_follow_failures_total"
    assert eventually(lambda: f"\n{failures} 2.0" in worker.client.get("/metrics").text, 30)
    assert worker.post("recommendations", ASK).status_code == 200


def test_metrics_tell_of_requests_answers_and_events(start_worker: StartWorker) -> None:
    worker = start_worker(default_policy="plackett_luce")
    worker.post("recommendations", ASK)
    worker.post("recommendations", {})
    text = worker.client.get("/metrics").text
    assert 'tailrace_serving_worker_requests_total{route="recommendations",status="200"} 1.0' in text
    assert 'tailrace_serving_worker_requests_total{route="recommendations",status="422"} 1.0' in text
    assert 'tailrace_serving_worker_request_seconds_count{route="recommendations"} 2.0' in text
    assert 'tailrace_producers_emitted_events_total{topic="recommendations"} 1.0' in text


KEYS = {
    "keys": [
        {"name": "shop", "sha256": hashlib.sha256(b"open sesame").hexdigest(), "surfaces": ["home"]},
        {"name": "quality", "sha256": hashlib.sha256(b"qa").hexdigest(), "qa": True},
        {"name": "elsewhere", "sha256": hashlib.sha256(b"other").hexdigest(), "surfaces": ["attic"]},
    ]
}


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ({}, 401, "key_missing"),
        ({"authorization": "Basic b3Blbg=="}, 401, "key_missing"),
        ({"authorization": "Bearer wrong"}, 401, "key_unknown"),
        ({"authorization": "Bearer other"}, 403, "surface_forbidden"),
        ({"authorization": "bearer open sesame"}, 200, None),
    ],
)
def test_a_key_opens_its_surfaces_only(
    start_worker: StartWorker, tmp_path: Path, header: dict[str, str], status: int, code: str | None
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(KEYS), encoding="utf-8")
    worker = start_worker(api_keys_file=file)
    answer = worker.post("recommendations", ASK, **header)
    assert answer.status_code == status
    assert answer.json().get("error", {}).get("code") == code
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert worker.client.get("/healthz").status_code == 200


def test_the_access_log_tells_of_requests_and_of_nobody(start_worker: StartWorker, caplog: pytest.LogCaptureFixture) -> None:
    worker = start_worker()
    caplog.set_level(logging.INFO, logger="tailrace.access")
    answer = worker.post("recommendations", {**ASK, "unit_id": "a-person", "session_id": "their-session"})
    assert eventually(lambda: bool(caplog.messages), 5)
    line = json.loads(caplog.messages[-1])
    assert (line["route"], line["status"], line["request"]) == ("recommendations", 200, answer.json()["request_id"])
    assert line["bytes_out"] == len(answer.content)
    assert not any(word in caplog.text for word in ("a-person", "their-session", "testclient"))


def test_the_document_describes_the_interface(start_worker: StartWorker) -> None:
    document = start_worker(k_max=7).client.get("/openapi.json").json()
    assert {"/v1/recommendations", "/v1/interactions", "/healthz", "/readyz"} == set(document["paths"])
    assert document["components"]["schemas"]["RecommendationRequest"]["properties"]["k"]["maximum"] == 7
    [header] = document["paths"]["/v1/interactions"]["post"]["parameters"]
    assert "send the whole list again under the same key" in header["description"]


def test_only_a_key_for_quality_assurance_forces_arms_and_the_answers_say_so(start_worker: StartWorker, tmp_path: Path) -> None:
    keys, experiments = tmp_path / "keys.json", tmp_path / "experiments.json"
    keys.write_text(json.dumps(KEYS), encoding="utf-8")
    experiments.write_text(json.dumps([DOCUMENT]), encoding="utf-8")
    worker = start_worker(api_keys_file=keys, experiments=ExperimentSettings(experiments))
    asks = [{**ASK, "forced_arms": {"ab-1": arm}} for arm in ("treatment", "control", "treatment")]
    refused = worker.post("recommendations", asks[0], authorization="Bearer open sesame")
    assert refusal(refused) == (403, "forcing_forbidden", "forced_arms")
    assert all(worker.post("recommendations", ask, authorization="Bearer qa").status_code == 200 for ask in asks)
    served = worker.recommendations()
    assert [event.assignments[0].arm for event in served] == ["treatment", "control", "treatment"]
    assert {(event.traffic, event.assignments[0].reason) for event in served} == {("forced", "forced")}


def test_without_keys_nobody_forces_arms(start_worker: StartWorker) -> None:
    answer = start_worker().post("recommendations", {**ASK, "forced_arms": {"ab-1": "treatment"}})
    assert refusal(answer) == (403, "forcing_forbidden", "forced_arms")
