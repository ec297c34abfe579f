"""Calls and interactions that are sent again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.serving_worker.api_worker import ASK, CLICK, StartWorker, refusal, workers


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    with workers(tmp_path) as start:
        yield start


def test_a_call_sent_again_is_the_same_event(start_worker: StartWorker) -> None:
    worker = start_worker()
    first = worker.post("recommendations", {**ASK, "idempotency_key": "call-1"}).json()
    again = worker.post("recommendations", ASK, Idempotency_Key="call-1").json()
    other_unit = worker.post("recommendations", {**ASK, "unit_id": "unit-2"}, Idempotency_Key="call-1").json()
    assert first == again
    assert other_unit["request_id"] != first["request_id"]
    assert len({event.event_id for event in worker.recommendations()}) == 2


def test_interactions_sent_again_are_the_same_events(start_worker: StartWorker) -> None:
    worker = start_worker()
    body = [CLICK, {**CLICK, "item_id": "b"}, {**CLICK, "idempotency_key": "own"}]
    first = worker.post("interactions", body, Idempotency_Key="call-1").json()["event_ids"]
    again = worker.post("interactions", body, Idempotency_Key="call-1").json()["event_ids"]
    own = worker.post("interactions", {**CLICK, "idempotency_key": "own"}).json()["event_ids"]
    assert first == again
    assert len(set(first)) == 3
    assert own == first[2:]
    assert len(worker.post("interactions", CLICK, Idempotency_Key="x" * 256).json()["event_ids"]) == 1


def test_one_key_for_two_surfaces_of_a_page_is_two_calls_and_two_interactions(start_worker: StartWorker) -> None:
    worker = start_worker()
    surfaces = ("home", "search")
    answers = [worker.post("recommendations", {**ASK, "surface": surface}, Idempotency_Key="page") for surface in surfaces]
    clicks = [worker.post("interactions", {**CLICK, "surface": surface, "idempotency_key": "page"}) for surface in surfaces]
    assert len({answer.json()["request_id"] for answer in answers}) == 2
    assert len({click.json()["event_ids"][0] for click in clicks}) == 2


def test_refused_interactions_sent_again_count_beside_those_that_were_taken(start_worker: StartWorker) -> None:
    worker = start_worker()
    wrong = {**CLICK, "item_id": "b", "kind": 7}
    first = worker.post("interactions", [CLICK, wrong, {**CLICK, "position": 1}], Idempotency_Key="call-1").json()
    assert [one["index"] for one in first["refused"]] == [1]
    mended = {**wrong, "kind": "click"}
    again = worker.post("interactions", [mended], Idempotency_Key="call-1").json()["event_ids"]
    whole = worker.post("interactions", [CLICK, mended, {**CLICK, "position": 1}], Idempotency_Key="call-1").json()["event_ids"]
    assert whole == [first["event_ids"][0], again[0], first["event_ids"][2]]
    assert len(set(whole)) == 3


@pytest.mark.parametrize("takes", [(False,), (True, False), (True, True, False), (True, True, True, False)])
def test_interactions_that_are_alike_count_each_once_wherever_the_worker_was_full(
    start_worker: StartWorker, takes: Sequence[bool]
) -> None:
    worker = start_worker()
    body = [CLICK, {**CLICK, "item_id": "b"}, CLICK, CLICK]
    worker.emitter.takes = takes
    taken = worker.post("interactions", body, Idempotency_Key="call-1").json().get("event_ids", [None] * 4)
    refused = [one for one, event_id in zip(body, taken, strict=True) if event_id is None]
    resent = worker.post("interactions", refused, Idempotency_Key="call-1").json()["event_ids"]
    whole = [*filter(None, taken), *resent]
    assert worker.post("interactions", body, Idempotency_Key="call-1").json()["event_ids"] == whole
    assert len(set(whole)) == 4


@pytest.mark.parametrize("wrong_place", [0, 1, 2])
def test_a_list_that_is_refused_whole_is_to_be_sent_again_where_some_of_it_was_only_refused_for_load(
    start_worker: StartWorker, wrong_place: int
) -> None:
    worker = start_worker()
    worker.emitter.takes = (False,)
    body: list[object] = [CLICK, {**CLICK, "item_id": "b"}]
    body.insert(wrong_place, {**CLICK, "kind": 7})
    answer = worker.post("interactions", body, Idempotency_Key="call-1")
    assert refusal(answer) == (503, "overloaded", None)
    assert int(answer.headers["retry-after"]) >= 1
    codes = [one["error"]["code"] for one in answer.json()["refused"]]
    assert [place for place, code in enumerate(codes) if code == "invalid_field"] == [wrong_place]
    assert codes.count("overloaded") == 2
    again = worker.post("interactions", body, Idempotency_Key="call-1")
    assert (again.status_code, [one["index"] for one in again.json()["refused"]]) == (202, [wrong_place])
    assert [event.item_id for event in worker.interactions()] == ["a", "b"]


def test_what_a_retry_may_say_otherwise_makes_no_other_event(start_worker: StartWorker) -> None:
    worker = start_worker()
    played = {**CLICK, "kind": "play", "client_occurred_at": 5, "client_sent_at": 6}
    first = worker.post("interactions", played, Idempotency_Key="call-1").json()
    assert worker.post("interactions", {**played, "client_sent_at": 9}, Idempotency_Key="call-1").json() == first
    assert worker.post("interactions", {**played, "client_occurred_at": 8}, Idempotency_Key="call-1").json() != first
