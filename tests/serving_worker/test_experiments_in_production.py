"""Experiments from the topic to the workers of a host: four processes, a stop, and a cold start where Kafka is not."""

import json
import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from deploy.cli import main
from schemas.events import RecommendationServed
from schemas.topics import RECOMMENDATIONS
from tests.producers.kafka_log import Log
from tests.schemas.experiment_samples import DOCUMENT
from tests.serving_worker.serve_process import Serve, serving, url_of
from tests.waiting import eventually

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.integration

WORKERS = 4
PAUSE_S = 0.02
FILLED_IN = {"revision", "changed_by", "changed_at", "effective_at"}
ARMS = [{"name": "control", "weight": 1}, {"name": "treatment", "weight": 1, "parameters": {"rows": "2"}}]
WISH = {**{name: value for name, value in DOCUMENT.items() if name not in FILLED_IN}, "arms": ARMS}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def said(installation: Mapping[str, str], *arguments: str) -> Any:
    result = CliRunner().invoke(main, ["experiments", *arguments, "--json"], env=dict(installation))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class Worker:
    """A worker and its client."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.client = httpx2.Client(base_url=url_of(process), timeout=10)

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200

    def exposes(self) -> bool:
        """Whether an arm decides an answer now."""
        before = self._exposures()
        assert self.client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1}).status_code == 200
        return self._exposures() > before

    def _exposures(self) -> float:
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == "tailrace_serving_worker_exposures_total" and sample.labels["experiment_id"] == "ab-1"
        )

    def end(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.communicate(timeout=30)


def test_a_stop_reaches_every_worker_of_a_host(serve: Serve, installation: Mapping[str, str], tmp_path: Path) -> None:
    wish = tmp_path / "ab-1.json"
    wish.write_text(json.dumps(WISH), encoding="utf-8")
    snapshot = tmp_path / "experiments"
    named = {**installation, "TAILRACE_EXPERIMENTS_SNAPSHOT": str(snapshot), "TAILRACE_SHUTDOWN_MS": "10000"}
    workers = [Worker(serve("--port", "0", **named)) for _ in range(WORKERS)]
    assert all(eventually(worker.ready, 30) for worker in workers)
    assert not any(worker.exposes() for worker in workers)

    said(installation, "apply", str(wish))
    assert all(eventually(worker.exposes, 10) for worker in workers)
    running = snapshot.read_bytes()

    ended = threading.Event()
    askers = [threading.Thread(target=_ask_until, args=(worker, ended)) for worker in workers]
    for asker in askers:
        asker.start()
    stopped_at = said(installation, "stop", "ab-1")["changes"][0]["revision"]["changed_at"]
    followed = eventually(lambda: not any(worker.exposes() for worker in workers), 10)
    ended.set()
    for asker in askers:
        asker.join(30)
    assert followed
    for worker in workers:
        worker.end()
    delays_s = _delays_s(Log(installation).read(RecommendationServed, RECOMMENDATIONS), stopped_at)
    logger.warning("the last exposure after the stop, by worker: %s s", ", ".join(f"{delay:.3f}" for delay in delays_s))
    assert len(delays_s) == WORKERS

    _starts_cold(serve, snapshot, running)


def _ask_until(worker: Worker, ended: threading.Event) -> None:
    with httpx2.Client(base_url=worker.client.base_url, timeout=10) as client:
        while not ended.wait(PAUSE_S):
            client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1})


def _delays_s(served: list[RecommendationServed], stopped_at: int) -> list[float]:
    """Of each worker, how long after the stop an arm last decided an answer; 0 where none did."""
    found = {each.producer_id: 0.0 for each in served}
    for each in served:
        if any(assignment.exposed for assignment in each.assignments):
            found[each.producer_id] = max(found[each.producer_id], (each.occurred_at - stopped_at) / 1e6)
    return sorted(found.values())


def _starts_cold(serve: Serve, snapshot: Path, running: bytes) -> None:
    """On another host, with Kafka and the registry away: from a snapshot of before the stop, unless it is killed or too old."""
    cold = snapshot.with_name("cold")
    cold.write_bytes(running)
    named = {"TAILRACE_EXPERIMENTS_SNAPSHOT": str(cold)}
    first = Worker(serve("--port", "0", **named))
    assert eventually(first.ready, 30)
    assert first.exposes()
    killed = CliRunner().invoke(main, ["experiments", "kill", "ab-1"], env=named)
    assert killed.exit_code == 0, killed.output
    assert eventually(lambda: not first.exposes(), 10)
    first.process.kill()

    second = Worker(serve("--port", "0", **named))
    assert eventually(second.ready, 30)
    assert not second.exposes()
    shutil.move(f"{cold}.kill", f"{cold}.lifted")
    assert eventually(second.exposes, 10)
    second.end()

    third = Worker(serve("--port", "0", **named, TAILRACE_EXPERIMENTS_AGE_S_MAX="1"))
    assert eventually(third.ready, 30)
    assert not third.exposes()
    third.end()
    first.client.close()
