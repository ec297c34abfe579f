"""Experiments from the topic to the workers of a host: four processes, stops, and a cold start where Kafka is not."""

import json
import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from math import inf
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
EXPERIMENTS = ("ab-1", "ab-2", "ab-3")
"""Each is stopped once. A machine that is busy with something else may spoil one stop, not all."""
PROMISE_S = 2.0
LIMIT_S = 10.0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def said(installation: Mapping[str, str], *arguments: str) -> Any:
    result = CliRunner().invoke(main, ["experiments", *arguments, "--json"], env=dict(installation))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def wish_of(experiment_id: str) -> dict[str, Any]:
    """In a layer of its own, with a parameter of its own: what the one before owned is nobody's for a day."""
    arms = [{"name": "control", "weight": 1}, {"name": "treatment", "weight": 1, "parameters": {f"rows of {experiment_id}": "2"}}]
    own = {name: f"{name} of {experiment_id}" for name in ("layer_id", "layer_salt", "arm_salt")}
    known = {name: value for name, value in DOCUMENT.items() if name not in FILLED_IN}
    return {**known, **own, "experiment_id": experiment_id, "arms": arms}


class Worker:
    """A worker and its client."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.client = httpx2.Client(base_url=url_of(process), timeout=10)

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200

    def exposes(self, experiment_id: str) -> bool:
        """Whether an arm of it decides an answer now."""
        before = self._exposures(experiment_id)
        assert self.client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1}).status_code == 200
        return self._exposures(experiment_id) > before

    def _exposures(self, experiment_id: str) -> float:
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == "tailrace_serving_worker_exposures_total" and sample.labels["experiment_id"] == experiment_id
        )

    def end(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.communicate(timeout=30)


def test_a_stop_counts_in_every_worker_of_a_host_within_two_seconds(
    serve: Serve, installation: Mapping[str, str], tmp_path: Path
) -> None:
    snapshot = tmp_path / "experiments"
    named = {**installation, "TAILRACE_EXPERIMENTS_SNAPSHOT": str(snapshot), "TAILRACE_SHUTDOWN_MS": "10000"}
    workers = [Worker(serve("--port", "0", **named)) for _ in range(WORKERS)]
    assert all(eventually(worker.ready, 30) for worker in workers)
    running, stopped_at = b"", {}
    for experiment_id in EXPERIMENTS:
        _start(installation, workers, experiment_id, tmp_path / f"{experiment_id}.json")
        running = running or snapshot.read_bytes()
        stopped_at[experiment_id] = _stop(installation, workers, experiment_id)
    for worker in workers:
        worker.end()
    served = Log(installation).read(RecommendationServed, RECOMMENDATIONS)
    delays_s = [max(_delays_s(served, name, at)) for name, at in stopped_at.items()]
    logger.warning("the last exposure after each stop, of all workers: %s s", ", ".join(f"{delay:.3f}" for delay in delays_s))
    assert min(delays_s) <= PROMISE_S
    assert max(delays_s) <= LIMIT_S

    _starts_cold(serve, snapshot, running)


def _start(installation: Mapping[str, str], workers: list[Worker], experiment_id: str, file: Path) -> None:
    assert not any(worker.exposes(experiment_id) for worker in workers)
    file.write_text(json.dumps(wish_of(experiment_id)), encoding="utf-8")
    said(installation, "apply", str(file))
    assert all(eventually(partial(worker.exposes, experiment_id), LIMIT_S) for worker in workers)


def _stop(installation: Mapping[str, str], workers: list[Worker], experiment_id: str) -> int:
    """While all workers are asked without end. When it was said, in microseconds."""
    ended = threading.Event()
    askers = [threading.Thread(target=_ask_until, args=(worker, ended)) for worker in workers]
    for asker in askers:
        asker.start()
    try:
        stopped_at: int = said(installation, "stop", experiment_id)["changes"][0]["revision"]["changed_at"]
        assert eventually(lambda: not any(worker.exposes(experiment_id) for worker in workers), LIMIT_S)
    finally:
        ended.set()
        for asker in askers:
            asker.join(30)
    return stopped_at


def _ask_until(worker: Worker, ended: threading.Event) -> None:
    with httpx2.Client(base_url=worker.client.base_url, timeout=10) as client:
        while not ended.wait(PAUSE_S):
            client.post("/v1/recommendations", json={"unit_id": "u", "surface": "home", "k": 1})


def _delays_s(served: list[RecommendationServed], experiment_id: str, stopped_at: int) -> list[float]:
    """Of each worker, how long after the stop an arm of it last decided an answer; negative where none did since."""
    found: dict[str, float] = {}
    for each in served:
        if any(assignment.exposed and assignment.experiment_id == experiment_id for assignment in each.assignments):
            found[each.producer_id] = max(found.get(each.producer_id, -inf), (each.occurred_at - stopped_at) / 1e6)
    assert len(found) == WORKERS
    return sorted(found.values())


def _starts_cold(serve: Serve, snapshot: Path, running: bytes) -> None:
    """On another host, with Kafka and the registry away: from a snapshot of before the stop, unless it is killed or too old."""
    cold = snapshot.with_name("cold")
    cold.write_bytes(running)
    named = {"TAILRACE_EXPERIMENTS_SNAPSHOT": str(cold)}
    first = Worker(serve("--port", "0", **named))
    assert eventually(first.ready, 30)
    assert first.exposes("ab-1")
    killed = CliRunner().invoke(main, ["experiments", "kill", "ab-1"], env=named)
    assert killed.exit_code == 0, killed.output
    assert eventually(lambda: not first.exposes("ab-1"), 10)
    first.process.kill()

    second = Worker(serve("--port", "0", **named))
    assert eventually(second.ready, 30)
    assert not second.exposes("ab-1")
    shutil.move(f"{cold}.kill", f"{cold}.lifted")
    assert eventually(partial(second.exposes, "ab-1"), 10)
    second.end()

    third = Worker(serve("--port", "0", **named, TAILRACE_EXPERIMENTS_AGE_S_MAX="1"))
    assert eventually(third.ready, 30)
    assert not third.exposes("ab-1")
    third.end()
    first.client.close()
