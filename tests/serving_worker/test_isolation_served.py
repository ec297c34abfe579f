"""`tailrace serve` with policies that are slow or cannot be loaded."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.schemas.experiment_samples import DOCUMENT
from tests.serving_worker.hostile_rankers import HOSTILE
from tests.serving_worker.serve_process import Serve, serving, url_of
from tests.waiting import eventually

ASK = {"unit_id": "u", "surface": "home", "k": 1}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def experiments_file(directory: Path, **parameters: str) -> str:
    arms = [{"name": name, "weight": 1, "parameters": {**parameters, "arm": name}} for name in ("one", "other")]
    path = directory / "experiments.json"
    path.write_text(json.dumps([{**DOCUMENT, "arms": arms}]), encoding="utf-8")
    return str(path)


def test_what_is_beyond_the_worker_gets_503_and_when_to_come_again(serve: Serve, tmp_path: Path) -> None:
    settings = {
        "TAILRACE_RANKERS": f"hostile={HOSTILE}",
        "TAILRACE_EXPERIMENTS_FILE": experiments_file(tmp_path, policy="hostile", act="sleep"),
        "TAILRACE_REQUEST_BUDGET_MS": "5000",
        "TAILRACE_INFLIGHT_MAX": "1",
    }
    process = serve("--port", "0", **settings)
    with httpx2.Client(base_url=url_of(process), timeout=30) as client, ThreadPoolExecutor(2) as pool:
        up = 'policy_processes{policy_id="hostile",use="live"} 2.0'
        assert eventually(lambda: up in client.get("/metrics").text, 30)
        answers = pool.map(lambda _: client.post("/v1/recommendations", json=ASK), range(2))
        answered, shed = sorted(answers, key=lambda answer: answer.status_code)
        assert (shed.status_code, shed.json()["error"]["code"], int(shed.headers["retry-after"]) >= 1) == (
            503,
            "overloaded",
            True,
        )
        assert (answered.status_code, answered.json()["items"]) == (200, [{"item_id": "a", "position": 0}])
        shares = [line for line in client.get("/metrics").text.splitlines() if line.startswith("tailrace_serving_worker_shed")]
        assert any('experiment_id="ab-1"' in line and line.endswith(" 1.0") for line in shares)


def test_every_policy_that_cannot_be_had_is_named_before_anybody_is_answered(serve: Serve) -> None:
    hostile = HOSTILE.partition(":")[0]
    process = serve("--port", "0", TAILRACE_RANKERS=f"one={hostile}:Broken,good={HOSTILE},other=no.such.module:Ranker")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert [part in log for part in ("one: ", "no model here", "other: ", "no.such.module", "good: ")] == [True] * 4 + [False]


def test_names_that_are_no_policies_are_wrong_settings(serve: Serve) -> None:
    process = serve(TAILRACE_RANKERS="mine=nowhere", TAILRACE_SHADOW_POLICIES="nobody", TAILRACE_POLICY_CPUS="all")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert all(part in log for part in ("'mine'", "'nobody'", "TAILRACE_POLICY_CPUS"))
