"""A policy in processes of its own, whatever it does. The processes are real."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop

from serving_worker.catalogue import by_item_id, load_catalogue
from serving_worker.isolation.breaker import FAILURES_MIN, PAUSE_S_MIN, State
from serving_worker.isolation.limits import MIB, HostLimits, PoolLimits
from serving_worker.isolation.policies import UNWANTED_S_MAX, Policies
from serving_worker.isolation.pool import PolicyAnswer, Pool
from serving_worker.isolation.process import Program, host_environment
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query
from tests.serving_worker.child_processes import policy_processes
from tests.serving_worker.hostile_rankers import HOSTILE
from tests.waiting import eventually

ITEMS = "abcdef"
LIMITS = PoolLimits(processes=1, grace_s=0.0, host=HostLimits(memory_bytes_max=256 * MIB))
LONG_S = 30.0
"""A deadline that nothing well behaved comes near, on a machine however slow."""
SHORT_S = 0.2
"""The deadline of what never ends."""

Body = Callable[[Pool], Awaitable[None]]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"surfaces": {"home": {"items": [{"item_id": item} for item in ITEMS]}}}), encoding="utf-8")
    return path


class Bench:
    """Runs a body with an open pool; `now_us` is the breaker's clock, and stands still unless it is moved."""

    def __init__(self, catalogue: Path) -> None:
        self.catalogue, self.now_us = catalogue, 0
        self.variables = dict(os.environ)

    def pool(self, ranker: str = HOSTILE, limits: PoolLimits = LIMITS) -> Pool:
        program = Program(ranker, self.catalogue, limits.host, host_environment(self.variables))
        return Pool("hostile", program, by_item_id(load_catalogue(self.catalogue)), limits, lambda: self.now_us)

    def run(self, body: Body, limits: PoolLimits = LIMITS) -> None:
        async def with_pool() -> None:
            pool = self.pool(limits=limits)
            pool.open()
            try:
                await asyncio.wait_for(pool.is_up.wait(), LONG_S)
                await body(pool)
            finally:
                await pool.close()

        uvloop.run(with_pool())  # the worker's loop; asyncio's own is that of test_isolation_worker.py


@pytest.fixture
def bench(catalogue: Path) -> Iterator[Bench]:
    yield Bench(catalogue)
    assert policy_processes() == []


def asking(act: str = "", **parameters: str) -> Query:
    return Query(surface="home", k=3, parameters={"act": act, **parameters})


async def reason_of(answer: Awaitable[PolicyAnswer]) -> Degraded:
    with pytest.raises(Unanswered) as unanswered:
        await answer
    return unanswered.value.reason


async def answered(pool: Pool) -> list[str]:
    """What a well-behaved request is answered with, as soon as a process is there for it."""
    answer = None
    while answer is None:
        await asyncio.wait_for(pool.is_up.wait(), LONG_S)
        answer = await unless_starting(pool)
    return [ranked.candidate.item_id for ranked in answer.ranking.ranked]


async def unless_starting(pool: Pool) -> PolicyAnswer | None:
    """A process that is about to be seen to have ended still counts as up."""
    try:
        return await pool.rank(asking(), "seed", LONG_S)
    except Unanswered as error:
        if error.reason is not Degraded.STARTING:
            raise
        return None


def test_a_policy_ranks_in_a_process_of_its_own(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        answer = await pool.rank(asking(), "seed", LONG_S)
        assert [(one.candidate.item_id, one.propensity, one.score) for one in answer.ranking.ranked] == [
            (item, 0.5, 9.0) for item in "cba"
        ]
        assert (answer.ranking.log_propensity, answer.version) == (-0.5, "hostile-1")
        assert pool.status().pids != (os.getpid(),)

    bench.run(body)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("sleep", "timeout"),
        ("burn_in_c", "timeout"),
        ("burn_in_a_regex", "timeout"),
        ("eat_memory", "memory"),
        ("quit_at_once", "crashed"),
        ("leave_by_exception", "crashed"),
        ("read_from_nowhere", "crashed"),
        ("write_rubbish", "unreadable"),
        ("write_a_lie", "unreadable"),
        ("hang_up", "crashed"),
        ("answer_twice", "refused"),
        ("flood", "unreadable"),
    ],
)
def test_what_hurts_its_process_is_gone_with_it_and_another_one_answers(bench: Bench, act: str, reason: str) -> None:
    async def body(pool: Pool) -> None:
        [pid] = pool.status().pids
        deadline_s = SHORT_S if reason == "timeout" else LONG_S
        assert await reason_of(pool.rank(asking(act), "seed", deadline_s)) == reason
        assert await asyncio.to_thread(eventually, lambda: not psutil.pid_exists(pid), LONG_S)
        assert await answered(pool) == ["c", "b", "a"]
        assert pool.status().started == 2

    bench.run(body)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("raise_something", "ranker_failed"),
        ("refuse", "refused"),
        ("nothing", "ranker_failed"),
        ("a list", "ranker_failed"),
        ("too few", "wrong_size"),
        ("too many", "wrong_size"),
        ("everything", "wrong_size"),
        ("a stranger", "unknown_item"),
        ("a number for an item", "unreadable"),
        ("one twice", "repeated_item"),
        ("a nan propensity", "bad_number"),
        ("a propensity above 1", "bad_number"),
        ("a propensity below 0", "bad_number"),
        ("a word for a propensity", "unreadable"),
        ("a nan score", "bad_number"),
        ("an infinite score", "bad_number"),
        ("a nan for the slate", "bad_number"),
        ("a slate of no chance", "bad_number"),
        ("a slate of more than all chance", "bad_number"),
    ],
)
def test_a_lie_has_a_word_of_its_own(bench: Bench, act: str, reason: str) -> None:
    async def body(pool: Pool) -> None:
        assert await reason_of(pool.rank(asking(act), "seed", LONG_S)) == reason
        assert await answered(pool) == ["c", "b", "a"]

    bench.run(body)


def test_a_process_whose_memory_has_run_out_gets_no_other_request(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        assert await reason_of(pool.rank(asking("eat_memory"), "seed", LONG_S)) == "memory"
        assert await answered(pool) == ["c", "b", "a"]

    bench.run(body)


@pytest.mark.parametrize(("act", "reason"), [("leave_a_child", "timeout"), ("leave_a_child_and_quit", "crashed")])
def test_what_a_policy_has_started_is_gone_with_it(bench: Bench, tmp_path: Path, act: str, reason: str) -> None:
    told = tmp_path / "child"

    async def body(pool: Pool) -> None:
        assert await reason_of(pool.rank(asking(act, child=str(told)), "seed", 3.0)) == reason
        assert await answered(pool)
        assert await asyncio.to_thread(eventually, lambda: not psutil.pid_exists(int(told.read_text())), LONG_S)

    bench.run(body)


def test_processes_that_end_while_nobody_asks_are_replaced_and_forgotten(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        for lives in range(2, 5):
            [pid] = pool.status().pids
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.to_thread(eventually, lambda: pool.status().started == lives, LONG_S)  # noqa: B023 - awaited here
        assert pool._free.qsize() == 1
        assert await answered(pool) == ["c", "b", "a"]

    bench.run(body)


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


def test_a_process_is_limited_from_outside_the_policys_reach(bench: Bench) -> None:
    cpu = min(os.sched_getaffinity(0))

    async def body(pool: Pool) -> None:
        [process] = [psutil.Process(pid) for pid in pool.status().pids]
        assert process.nice() == psutil.Process().nice() + 10
        assert process.cpu_affinity() == [cpu]
        assert process.rlimit(psutil.RLIMIT_AS) == (256 * MIB, 256 * MIB)
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert os.getpgid(process.pid) == process.pid

    host = HostLimits(memory_bytes_max=256 * MIB, cpus=frozenset({cpu}))
    bench.run(body, replace(LIMITS, host=host))


def test_a_policy_sees_none_of_our_settings_and_what_it_prints_goes_nowhere(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.variables["TAILRACE_WAREHOUSE_URL"] = "http://user:password@host:1/db"

    async def body(pool: Pool) -> None:
        for act in ("look_for_secrets", "print_a_lot"):
            assert (await pool.rank(asking(act), "seed", LONG_S)).version == "hostile-1"

    bench.run(body)
    assert "xxx" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("ranker", ["NeverReady", "Broken"])
def test_a_policy_that_does_not_start_holds_up_nobody(bench: Bench, ranker: str) -> None:
    async def body() -> None:
        pool = bench.pool(f"tests.serving_worker.hostile_rankers:{ranker}")
        policies = Policies({"other"}, lambda _name: pool, lambda: bench.now_us)
        try:
            policies.warm({"other", "unknown"})
            await policies.wait_until_up(0.5)
            assert await reason_of(policies.rank("other", asking(), "seed", LONG_S)) == "starting"
            assert await reason_of(policies.rank("unknown", asking(), "seed", LONG_S)) == "unknown_policy"
        finally:
            await policies.close()

    asyncio.run(body())


def test_a_policy_that_nobody_wants_has_no_processes_until_somebody_does(bench: Bench) -> None:
    async def body() -> None:
        policies = Policies({"wanted", "other"}, lambda _name: bench.pool(), lambda: bench.now_us)
        try:
            policies.warm({"wanted", "other"})
            await policies.wait_until_up(LONG_S)
            [pid] = policies.status()["other"].pids
            for _ in range(2):
                policies.close_unwanted()
                assert policies.status().keys() == {"wanted", "other"}
                bench.now_us += UNWANTED_S_MAX * 1_000_000
                policies.warm({"wanted"})
            policies.close_unwanted()
            assert policies.status().keys() == {"wanted"}
            assert await asyncio.to_thread(eventually, lambda: not psutil.pid_exists(pid), LONG_S)
            policies.warm({"other"})
            await policies.wait_until_up(LONG_S)
            assert (await policies.rank("other", asking(), "seed", LONG_S)).version == "hostile-1"
        finally:
            await policies.close()

    asyncio.run(body())


def test_policies_end_with_a_worker_that_is_killed(bench: Bench) -> None:
    """Also one that burns the processor and would not notice that its socket has closed."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.serving_worker.worker_to_be_killed", str(bench.catalogue)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert worker.stdout is not None
        pids = json.loads(worker.stdout.readline())
        assert len(pids) == 2
        assert all(map(psutil.pid_exists, pids))
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.communicate(timeout=LONG_S)
    assert eventually(lambda: not any(map(psutil.pid_exists, pids)), LONG_S)


def test_a_policy_that_burns_the_processor_leaves_the_workers_loop_free(bench: Bench) -> None:
    async def body(pool: Pool) -> None:
        burning = asyncio.create_task(pool.rank(asking("burn_in_c"), "seed", 2.0))
        turns, until = 0, time.monotonic() + 1.0
        while time.monotonic() < until:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 1_000
        assert not burning.done()
        assert await reason_of(burning) == "timeout"

    bench.run(body)
