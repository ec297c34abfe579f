"""A worker over a transport in memory, and how tests ask it over HTTP."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from starlette.testclient import TestClient

from producers.emitter import Emitter
from producers.experiment_log import ExperimentLog
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from producers.transport import OutboundRecord
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import Event, Interaction, RecommendationServed
from serving_worker.config import WorkerSettings
from serving_worker.main import build_app, load
from tests.producers.event_samples import KnownSchemaIds

CANDIDATES = {"candidate_set_id": "spring", "items": [{"item_id": item, "score": 1.0} for item in "abcd"]}
CATALOGUE = {"surfaces": {"home": CANDIDATES, "search": CANDIDATES}}
ASK = {"unit_id": "unit-1", "surface": "home", "k": 3}
CLICK = {"unit_id": "unit-1", "surface": "home", "item_id": "a", "kind": "click"}


class Doorkeeper(Emitter):
    """Takes events as `takes` says, and all when it has nothing more to say."""

    takes: Sequence[bool] = ()

    def emit(self, event: Event) -> bool:
        takes, self.takes = self.takes[:1], self.takes[1:]
        return takes != (False,) and super().emit(event)


class Worker:
    """A worker over a transport in memory, with its client."""

    def __init__(self, client: TestClient, emitter: Doorkeeper, transport: MemoryTransport) -> None:
        self.client, self.emitter, self._transport = client, emitter, transport

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/v1/{path}", json=body, headers=named)

    def recommendations(self) -> list[RecommendationServed]:
        return self._emitted(RecommendationServed, "tailrace.recommendations")

    def interactions(self) -> list[Interaction]:
        return self._emitted(Interaction, "tailrace.interactions")

    def _emitted(self, kind: Any, topic: str) -> list[Any]:
        self.emitter.close(5.0)
        codec, writer = Codec(kind), parse_physical(contract(kind.__name__).newest.schema)
        records: list[OutboundRecord] = [record for record in self._transport.records if record.topic == topic]
        return [codec.decode(record.value, writer) for record in records]


StartWorker = Callable[..., Worker]


@contextmanager
def workers(tmp_path: Path) -> Iterator[StartWorker]:
    clients: list[TestClient] = []

    def start(
        transport: MemoryTransport | None = None, open_log: Callable[[], ExperimentLog] | None = None, **settings: Any
    ) -> Worker:
        catalogue = tmp_path / "catalogue.json"
        catalogue.write_text(json.dumps(CATALOGUE), encoding="utf-8")
        transport = transport or MemoryTransport()
        emitter = Doorkeeper(transport, KnownSchemaIds(), now_us=now_us, new_id=new_id)
        made = WorkerSettings(catalogue, shutdown_s=0.2, **settings)
        app = build_app(made, load(made), emitter, open_log=open_log)
        client = TestClient(app)
        client.__enter__()
        clients.append(client)
        return Worker(client, emitter, transport)

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def refusal(response: httpx2.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"], error["field"]
