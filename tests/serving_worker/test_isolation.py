"""A policy in processes of its own, whatever it does. The processes are real."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from serving_worker.isolation.child import Child
from serving_worker.isolation.limits import MIB, HostLimits
from serving_worker.isolation.policies import UNWANTED_S_MAX, Policies
from serving_worker.isolation.pool import Pool
from serving_worker.isolation.reasons import Unanswered
from tests.serving_worker.hostile_rankers import NUMBERS, WRONG_TYPES
from tests.serving_worker.pool_bench import LIMITS, LONG_S, SHORT_S, Bench, answered, asking, pool_bench, reason_of
from tests.waiting import eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with pool_bench(tmp_path) as bench:
        yield bench


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
        ("too few", "wrong_size"),
        ("too many", "wrong_size"),
        ("everything", "wrong_size"),
        ("a stranger", "unknown_item"),
        ("one twice", "repeated_item"),
        ("a nan propensity", "bad_number"),
        ("a propensity above 1", "bad_number"),
        ("a propensity below 0", "bad_number"),
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


@pytest.mark.parametrize(
    ("act", "reason", "said"),
    [
        *((act, "ranker_failed", said) for act, said in WRONG_TYPES.items()),
        ("half a surrogate pair for an item", "ranker_failed", "UnicodeEncodeError"),
        ("raise_half_a_surrogate_pair", "ranker_failed", r"LookupError: no \\ud83d"),
        ("raise_without_words", "ranker_failed", "WordlessError: its text raises ZeroDivisionError"),
        ("refuse_without_reason", "refused", "not today"),
    ],
)
def test_what_is_no_ranking_says_so_and_keeps_its_process(bench: Bench, act: str, reason: str, said: str) -> None:
    async def body(pool: Pool) -> None:
        before = pool.status().pids
        with pytest.raises(Unanswered, match=said) as unanswered:
            await pool.rank(asking(act), "seed", LONG_S)
        assert (unanswered.value.reason, pool.status().pids) == (reason, before)
        assert await answered(pool) == ["c", "b", "a"]
        assert pool.status().started == 1

    bench.run(body)


@pytest.mark.parametrize("act", NUMBERS)
def test_a_policys_numbers_may_be_of_any_kind(bench: Bench, act: str) -> None:
    bench.variables["OPENBLAS_NUM_THREADS"] = "1"  # each takes address space

    async def body(pool: Pool) -> None:
        ranking = (await pool.rank(asking(act), "seed", LONG_S)).ranking
        assert [(one.candidate.item_id, one.propensity, one.score) for one in ranking.ranked] == [
            (item, 0.5, 9.0) for item in "cba"
        ]
        assert ranking.log_propensity == -0.5

    bench.run(body, replace(LIMITS, host=HostLimits()))


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


def test_a_process_is_limited_from_outside_the_policys_reach(bench: Bench) -> None:
    cpu = min(os.sched_getaffinity(0))

    async def body(pool: Pool) -> None:
        [process] = [psutil.Process(pid) for pid in pool.status().pids]
        assert process.nice() == min(psutil.Process().nice() + 10, 19)
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


def test_a_process_that_the_system_does_not_let_go_of_holds_up_no_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        pool = bench.pool()
        pool.open()
        await asyncio.wait_for(pool.is_up.wait(), LONG_S)
        [pid] = pool.status().pids
        assert await reason_of(pool.rank(asking("sleep"), "seed", SHORT_S)) == "timeout"
        await asyncio.wait_for(pool.close(), LONG_S)
        assert psutil.pid_exists(pid)
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.to_thread(eventually, lambda: not psutil.pid_exists(pid), LONG_S)

    monkeypatch.setattr(Child, "kill", lambda _child: None)
    asyncio.run(body())


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
