"""Deadlines, waiting and pauses: when a policy is asked, and when its process is to blame."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving_worker.isolation.breaker import FAILURES_MIN, PAUSE_S_MIN, State
from serving_worker.isolation.pool import Pool
from tests.serving_worker.pool_bench import LIMITS, LONG_S, SHORT_S, Bench, answered, asking, pool_bench, reason_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with pool_bench(tmp_path) as bench:
        yield bench


def test_one_that_is_a_little_late_is_kept(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        before = pool.status().pids
        assert await reason_of(pool.rank(asking("nap", nap_s="0.5"), "seed", 0.05)) == "timeout"
        assert await answered(pool)
        assert (pool.status().pids, pool.status().overrun) == (before, 0)

    bench.run(body, replace(LIMITS, grace_s=LONG_S))


def test_a_loop_that_stood_still_does_not_blame_the_policy(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        request = asyncio.create_task(pool.rank(asking("nap", nap_s="0.05"), "seed", 0.2))
        await asyncio.sleep(0)
        threading.Event().wait(1.0)
        assert (await request).version == "hostile-1"

    bench.run(body)


def test_a_cancelled_request_leaves_the_process_to_the_next(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        before = pool.status().pids
        request = asyncio.create_task(pool.rank(asking("nap", nap_s="0.2"), "seed", LONG_S))
        await asyncio.sleep(0)
        request.cancel()
        assert await answered(pool) == ["c", "b", "a"]
        assert pool.status().pids == before

    bench.run(body, replace(LIMITS, grace_s=LONG_S))


def test_one_process_answers_one_at_a_time_and_few_may_wait(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        naps = [asyncio.create_task(pool.rank(asking("nap", nap_s="0.3"), "seed", LONG_S)) for _ in range(2)]
        await asyncio.sleep(0)
        assert pool.status().waiting == 1
        assert await reason_of(pool.rank(asking(), "seed", LONG_S)) == "busy"
        assert [(await task).version for task in naps] == ["hostile-1"] * 2
        assert (pool.status().waiting, pool.status().started) == (0, 1)

    bench.run(body, replace(LIMITS, waiting_max=1))


def test_one_that_waited_in_vain_says_busy_and_costs_no_process(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        before = pool.status().pids
        taken = asyncio.create_task(pool.rank(asking("nap", nap_s="1"), "seed", LONG_S))
        await asyncio.sleep(0)
        assert await reason_of(pool.rank(asking(), "seed", SHORT_S)) == "busy"
        assert (await taken).version == "hostile-1"
        assert (pool.status().pids, pool.status().breaker) == (before, State.CLOSED)

    bench.run(body)


def test_a_policy_is_not_asked_and_not_blamed_where_most_of_the_time_went_on_waiting(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        taken = asyncio.create_task(pool.rank(asking("nap", nap_s="0.8"), "seed", LONG_S))
        await asyncio.sleep(0)
        waiting = [pool.rank(asking("nap", nap_s="5"), "seed", 1.0) for _ in range(FAILURES_MIN)]
        assert [await reason for reason in [asyncio.create_task(reason_of(one)) for one in waiting]] == ["busy"] * FAILURES_MIN
        assert (await taken).version == "hostile-1"
        assert await answered(pool) == ["c", "b", "a"]
        assert (pool.status().started, pool.status().breaker) == (1, State.CLOSED)

    bench.run(body)


def test_a_loop_that_stood_still_while_a_request_waited_asks_no_policy_for_it(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        taken = asyncio.create_task(pool.rank(asking("nap", nap_s="0.1"), "seed", LONG_S))
        waiting = asyncio.create_task(reason_of(pool.rank(asking("sleep"), "seed", 1.0)))
        await asyncio.sleep(0)
        threading.Event().wait(0.8)
        assert await waiting == "busy"
        assert (await taken).version == "hostile-1"
        assert pool.status().overrun == 0

    bench.run(body)


def test_a_request_that_comes_when_its_time_is_over_asks_no_policy(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        assert await reason_of(pool.rank(asking("sleep"), "seed", -0.001)) == "busy"
        assert await answered(pool) == ["c", "b", "a"]
        assert pool.status().started == 1

    bench.run(body)


def test_a_policy_that_keeps_failing_is_not_asked_until_a_probe_succeeds(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        for _ in range(FAILURES_MIN):
            assert await reason_of(pool.rank(asking("raise_something"), "seed", LONG_S)) == "ranker_failed"
        assert await reason_of(pool.rank(asking(), "seed", LONG_S)) == "breaker_open"
        bench.now_us += PAUSE_S_MIN * 1_000_000
        assert await reason_of(pool.rank(asking("raise_something"), "seed", LONG_S)) == "ranker_failed"
        bench.now_us += PAUSE_S_MIN * 1_000_000
        assert await reason_of(pool.rank(asking(), "seed", LONG_S)) == "breaker_open", "a failed probe doubles the pause"
        bench.now_us += PAUSE_S_MIN * 1_000_000
        probe = asyncio.create_task(pool.rank(asking("nap", nap_s="0.2"), "seed", LONG_S))
        await asyncio.sleep(0)
        assert await reason_of(pool.rank(asking(), "seed", LONG_S)) == "breaker_open", "one probe at a time"
        assert (await probe).version == "hostile-1"
        assert await answered(pool) == ["c", "b", "a"]
        assert pool.status().breaker is State.CLOSED

    bench.run(body)


def test_a_probe_whose_request_was_cancelled_leaves_the_next_one_to_be_the_probe(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        for _ in range(FAILURES_MIN):
            assert await reason_of(pool.rank(asking("raise_something"), "seed", LONG_S)) == "ranker_failed"
        bench.now_us += PAUSE_S_MIN * 1_000_000
        probe = asyncio.create_task(pool.rank(asking("nap", nap_s="0.1"), "seed", LONG_S))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.wait((probe,), timeout=LONG_S)
        assert await answered(pool) == ["c", "b", "a"]
        assert pool.status().breaker is State.CLOSED

    bench.run(body, replace(LIMITS, grace_s=LONG_S))
