"""Candidates in the shadow: which requests they rank, what is dropped, and the way of their rankings into the warehouse."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import clickhouse_connect
import httpx2
import pytest

from schemas.events import Event, ShadowRanking
from schemas.topics import SHADOW_RANKINGS
from serving_worker.catalogue import Candidate
from serving_worker.isolation.pool import PolicyAnswer
from serving_worker.rankers.ranking import Query, Ranked, Ranking
from serving_worker.recommend import Clock
from serving_worker.shadow import IN_FLIGHT_MAX, Shadow, ShadowOutlets, is_within
from tests.producers.event_samples import SERVED
from tests.producers.kafka_log import Log
from tests.schemas.experiment_samples import DOCUMENT, NOW
from tests.serving_worker.child_processes import policy_processes
from tests.serving_worker.hostile_rankers import HOSTILE
from tests.serving_worker.serve_process import TAILRACE, Serve, serving, url_of
from tests.waiting import eventually

REQUESTS = 20_000
ANSWER = PolicyAnswer(Ranking((Ranked(Candidate("a", 2.0, "editors"), 0.25),), -1.4), "7")
QUERY = Query(surface="home", k=1, parameters={"temperature": "2"})


def test_a_policys_share_of_the_requests_is_its_own_sample_and_the_same_each_time() -> None:
    one, other = ({n for n in range(REQUESTS) if is_within(0.25, policy, f"request-{n}")} for policy in ("one", "other"))
    assert len(one) / REQUESTS == pytest.approx(0.25, abs=0.015)
    assert len(one & other) / REQUESTS == pytest.approx(0.0625, abs=0.01)
    assert one == {n for n in range(REQUESTS) if is_within(0.25, "one", f"request-{n}")}
    assert all(is_within(1.0, "one", f"request-{n}") for n in range(REQUESTS))


class Candidates:
    """Policies that answer when they are let, and tell what they were asked."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked: list[tuple[str, Query, str]] = []

    async def rank(self, policy_id: str, query: Query, seed: str, _deadline_s: float) -> PolicyAnswer:
        self.asked.append((policy_id, query, seed))
        await self.may_answer.wait()
        return ANSWER


class Counted:
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []
        self.emitted: list[Event] = []

    def shadowed(self, policy_id: str, outcome: str) -> None:
        self.outcomes.append((policy_id, outcome))

    def emit(self, event: Event) -> bool:
        self.emitted.append(event)
        return True


def shadow_of(candidates: Candidates, counted: Counted) -> Shadow:
    return Shadow({"next": 1.0}, candidates, ShadowOutlets(counted.emit, counted, Clock(lambda: NOW, lambda: 5)))


def test_nothing_is_done_before_the_answers_own_task_lets_go_and_what_is_too_much_is_dropped() -> None:
    async def body() -> None:
        candidates, counted = Candidates(), Counted()
        shadow = shadow_of(candidates, counted)
        for _ in range(IN_FLIGHT_MAX + 3):
            shadow.follow(SERVED, QUERY)
        assert candidates.asked == []
        assert counted.outcomes == [("next", "dropped")] * 3
        candidates.may_answer.set()
        assert await asyncio.to_thread(eventually, lambda: len(counted.emitted) == IN_FLIGHT_MAX, 30)
        shadow.follow(SERVED, QUERY)
        await shadow.close()
        assert len(counted.emitted) == IN_FLIGHT_MAX, "what is under way at the end is let go"

    asyncio.run(body())


def test_the_candidate_is_asked_without_the_live_arms_parameters_and_told_of_with_its_own_id() -> None:
    async def body() -> tuple[Candidates, Counted]:
        candidates, counted = Candidates(), Counted()
        candidates.may_answer.set()
        shadow = shadow_of(candidates, counted)
        for _ in range(2):
            shadow.follow(SERVED, QUERY)
        assert await asyncio.to_thread(eventually, lambda: len(counted.emitted) == 2, 30)
        return candidates, counted

    candidates, counted = asyncio.run(body())
    [(policy_id, query, seed), _] = candidates.asked
    assert (policy_id, query.parameters, query.surface, str(SERVED.request_id) in seed) == ("next", {}, "home", True)
    one, again = counted.emitted
    assert isinstance(one, ShadowRanking)
    assert one == again, "a retried call is the same event"
    assert one.event_id not in {"", SERVED.event_id}
    assert (one.policy_id, one.policy_version, one.live_policy_id) == ("next", "7", SERVED.policy_id)
    assert [(slot.item_id, slot.score, slot.source, slot.propensity) for slot in one.slots] == [("a", 2.0, "editors", 0.25)]
    assert (one.slate_log_propensity, one.traffic, one.occurred_at) == (-1.4, SERVED.traffic, SERVED.occurred_at)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with serving(tmp_path) as start:
        yield start


def experiments_file(directory: Path) -> str:
    arms = [{"name": name, "weight": 1, "parameters": {"policy": "hostile", "act": "", "arm": name}} for name in ("one", "other")]
    path = directory / "experiments.json"
    path.write_text(json.dumps([{**DOCUMENT, "arms": arms}]), encoding="utf-8")
    return str(path)


@pytest.mark.integration
def test_live_and_shadow_policies_of_a_served_worker_reach_the_warehouse_and_end_with_it(
    serve: Serve, installation: Mapping[str, str], tmp_path: Path
) -> None:
    settings = {
        "TAILRACE_RANKERS": f"hostile={HOSTILE}",
        "TAILRACE_SHADOW_POLICIES": "plackett_luce",
        "TAILRACE_REQUEST_BUDGET_MS": "30000",
        "TAILRACE_EXPERIMENTS_FILE": experiments_file(tmp_path),
        "TAILRACE_SHUTDOWN_MS": "15000",
    }
    process = serve("--port", "0", **installation, **settings)
    with httpx2.Client(base_url=url_of(process), timeout=30) as client:
        assert eventually(lambda: processes_up(client) == {"live": 2.0, "shadow": 1.0}, 30)
        hosts = policy_processes(process.pid)
        assert len(hosts) == 3
        ask = {"unit_id": "u", "surface": "home", "k": 1}
        asked = [client.post("/v1/recommendations", json=ask).json()["request_id"] for _ in range(10)]
        assert eventually(lambda: "shadow_rankings_total{" in client.get("/metrics").text, 30)
        assert eventually(lambda: ranked_in_the_shadow(client) == 10, 30)
    process.send_signal(signal.SIGTERM)
    _, log_of_process = process.communicate(timeout=30)
    assert process.returncode == 0, log_of_process
    assert [host for host in hosts if host.is_running()] == []

    log = Log(installation)
    shadows = log.read(ShadowRanking, SHADOW_RANKINGS)
    assert sorted(shadow.request_id for shadow in shadows) == sorted(asked)
    sink = subprocess.run([*TAILRACE, "sink", "--drain"], env={**os.environ, **installation}, timeout=60, check=False)
    assert sink.returncode == 0
    with clickhouse_connect.get_client(dsn=installation["TAILRACE_WAREHOUSE_URL"]) as client:
        stored = client.query("SELECT live_policy_id, policy_id, length(slots), count() FROM shadow_rankings GROUP BY ALL")
    assert stored.result_rows == [("hostile", "plackett_luce", 1, 10)]


def processes_up(client: httpx2.Client) -> dict[str, float]:
    return {use: figure(client, f'policy_processes{{policy_id="{policy}",use="{use}"}}') for use, policy in USES.items()}


USES = {"live": "hostile", "shadow": "plackett_luce"}


def ranked_in_the_shadow(client: httpx2.Client) -> float:
    return figure(client, 'shadow_rankings_total{outcome="ranked",policy_id="plackett_luce"}')


def figure(client: httpx2.Client, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"tailrace_serving_worker_{sample} ")]
    return float(found[0]) if found else 0.0
