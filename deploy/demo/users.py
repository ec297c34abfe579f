"""The simulated users at work: they ask the HTTP worker, click, and now and then send a call again as a shaky network would.

Every call has an idempotency key that follows from the request's place in the run, so that what the worker draws and what the
ledger expects are the same in every run.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import urllib3

from deploy.demo.demo_ranking import APPEAL, SLATE_ITEMS, SURFACE, UNIT_TYPE
from deploy.demo.errors import DemoFailed
from deploy.demo.open_bandit import CLICK
from deploy.demo.simulation import Visits
from schemas.errors import PartUnreachable
from schemas.events import EventId, ItemId, Traffic

CALLERS = 8
CALL_TIMEOUT_S = 10.0
SENT_AGAIN_EVERY = 50
"""Of so many requests one is sent again, and so are its clicks."""


@dataclass(frozen=True, slots=True)
class Visited:
    """How many records each event should have become. `sent_again` counts the calls that were made a second time."""

    answers: Mapping[EventId, int]
    clicks: Mapping[EventId, int]
    sent_again: int


@dataclass(frozen=True, slots=True)
class _Visit:
    """The worker gives the answer's event the id of the request."""

    answer: EventId
    clicks: tuple[EventId, ...]
    sends: int


class WorkerClient:
    """The worker's HTTP interface at `url`, for several threads at once. Close it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(maxsize=CALLERS, retries=False, timeout=CALL_TIMEOUT_S)

    def close(self) -> None:
        self._pool.clear()

    def ready(self) -> bool:
        """Whether the worker wants requests. Raises PartUnreachable where it does not answer."""
        return self._call("GET", "/readyz").status == HTTPStatus.OK

    def post(self, path: str, body: object, key: str) -> Any:
        """The answer to a call under an idempotency key. Raises PartUnreachable where there is none, DemoFailed at a refusal."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        response = self._call("POST", path, body=json.dumps(body), headers=headers)
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise DemoFailed(f"the HTTP worker answers {path} with {response.status}: {response.data.decode(errors='replace')}")
        return response.json()

    def _call(self, method: str, path: str, **request: Any) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(method, self._url + path, **request)
        except urllib3.exceptions.HTTPError as error:
            raise PartUnreachable("the HTTP worker", self._url + path, f"it does not answer: {error}") from error


def visit(client: WorkerClient, visits: Visits) -> Visited:
    """Make every request of `visits`, and every click on what is answered. Raises PartUnreachable and DemoFailed."""
    askers = visits.askers()
    with ThreadPoolExecutor(CALLERS) as callers:
        made = list(callers.map(lambda request: _one(client, visits, request, askers[request]), range(visits.requests)))
    return _ledger(made)


def _one(client: WorkerClient, visits: Visits, request: int, asker: int) -> _Visit:
    unit = {"unit_id": f"user-{asker}", "unit_type": UNIT_TYPE, "surface": SURFACE, "traffic": Traffic.SIMULATED}
    sends = 2 if request % SENT_AGAIN_EVERY == 0 else 1
    answer = _post(client, "/v1/recommendations", {**unit, "k": SLATE_ITEMS}, f"request-{request}", sends)
    positions = {ItemId(item["item_id"]): item["position"] for item in answer["items"]}
    click = {**unit, "kind": CLICK, "request_id": answer["request_id"]}
    clicks = [
        {**click, "item_id": item, "position": positions[item]} for item in visits.clicked(request, list(positions), APPEAL)
    ]
    clicked = _post(client, "/v1/interactions", clicks, f"clicks-{request}", sends)["event_ids"] if clicks else ()
    return _Visit(EventId(answer["request_id"]), tuple(clicked), sends)


def _post(client: WorkerClient, path: str, body: object, key: str, sends: int) -> Any:
    """The answer to the same call sent `sends` times. Raises DemoFailed where an answer differs from the first."""
    first, *others = [client.post(path, body, key) for _ in range(sends)]
    if any(other != first for other in others):
        raise DemoFailed(f"{path}: a call sent again under the key {key!r} got another answer")
    return first


def _ledger(visits: Iterable[_Visit]) -> Visited:
    answers: Counter[EventId] = Counter()
    clicks: Counter[EventId] = Counter()
    sent_again = 0
    for visited in visits:
        answers[visited.answer] += visited.sends
        clicks.update(dict.fromkeys(visited.clicks, visited.sends))
        sent_again += (visited.sends - 1) * (2 if visited.clicks else 1)
    return Visited(answers, clicks, sent_again)
