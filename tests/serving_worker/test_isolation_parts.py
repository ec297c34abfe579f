"""The pure parts of isolation: the breaker, the frames, the verdict on an answer, the settings."""

import os
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.environment import Environment
from schemas.errors import ConfigurationError
from serving_worker.catalogue import Candidate
from serving_worker.isolation.breaker import FAILURES_MIN, PAUSE_S_MAX, PAUSE_S_MIN, WINDOW_OUTCOMES_MAX, WINDOW_S, Breaker, State
from serving_worker.isolation.config import PolicySettings
from serving_worker.isolation.frames import (
    MESSAGE_CHARACTERS_MAX,
    REPLY_BYTES_MAX,
    Answer,
    FrameBuffer,
    Item,
    Ready,
    Refusal,
    frame,
    read_reply,
    refusal,
    reply_bytes_max,
)
from serving_worker.isolation.limits import HostLimits, parse_cpus
from serving_worker.isolation.pool import RESTART_PAUSE_S_MAX, restart_pause_s
from serving_worker.isolation.reasons import FAULTS, REFUSALS, Degraded, Unanswered, refusal_of
from serving_worker.isolation.verdict import ranking_of
from serving_worker.rankers.plugins import BUILT_IN

S = 1_000_000
ITEMS = {item: Candidate(item, 1.0) for item in "abcd"}


def open_breaker() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_MIN):
        fail(breaker, 0)
    assert breaker.state is State.OPEN
    return breaker


def fail(breaker: Breaker, now_us: int) -> None:
    ticket = breaker.admit(now_us)
    assert ticket is not None
    breaker.failed(ticket, now_us)


def succeed(breaker: Breaker, now_us: int) -> None:
    ticket = breaker.admit(now_us)
    assert ticket is not None
    breaker.succeeded(ticket, now_us)


def test_the_breaker_opens_at_half_and_not_at_a_few_among_many() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MIN * 2):
        succeed(breaker, 0)
    for _ in range(FAILURES_MIN * 2 - 1):
        fail(breaker, 0)
    assert breaker.state == "closed"
    fail(breaker, 0)
    assert breaker.state == "open"


def test_failures_that_are_long_ago_are_forgotten() -> None:
    breaker = Breaker()
    for second in range(FAILURES_MIN * 5):
        fail(breaker, second * WINDOW_S * S)
    assert breaker.state is State.CLOSED


def test_a_flood_of_successes_is_counted_in_a_bounded_window() -> None:
    breaker = Breaker()
    for _ in range(WINDOW_OUTCOMES_MAX * 10):
        succeed(breaker, 0)
    for _ in range(WINDOW_OUTCOMES_MAX // 2):
        fail(breaker, 0)
    assert breaker.state is State.OPEN


def test_pauses_double_up_to_a_bound_and_a_success_starts_afresh() -> None:
    breaker, now_us = open_breaker(), 0
    for pause_s in (1, 2, 4, 8, 16, PAUSE_S_MAX, PAUSE_S_MAX):
        assert breaker.admit(now_us + pause_s * S - 1) is None
        now_us += pause_s * S
        fail(breaker, now_us)
    now_us += PAUSE_S_MAX * S
    succeed(breaker, now_us)
    assert breaker.state is State.CLOSED
    for _ in range(FAILURES_MIN):
        fail(breaker, now_us)
    assert breaker.admit(now_us + PAUSE_S_MIN * S) is not None


def test_a_straggler_from_before_the_opening_is_not_taken_for_the_probe() -> None:
    breaker = Breaker()
    early, late = breaker.admit(0), breaker.admit(0)
    assert early is not None
    assert late is not None
    for _ in range(FAILURES_MIN):
        fail(breaker, 0)
    probe = breaker.admit(PAUSE_S_MIN * S)
    assert probe is not None
    breaker.succeeded(early, PAUSE_S_MIN * S)
    breaker.failed(late, PAUSE_S_MIN * S)
    assert breaker.state == "half_open"
    breaker.succeeded(probe, PAUSE_S_MIN * S)
    assert breaker.state == "closed"


def test_a_probe_that_says_nothing_leaves_the_next_one_to_be_the_probe() -> None:
    breaker = open_breaker()
    probe = breaker.admit(PAUSE_S_MIN * S)
    assert probe is not None
    assert breaker.admit(PAUSE_S_MIN * S) is None
    breaker.abandoned(probe)
    assert breaker.admit(PAUSE_S_MIN * S) is not None


@given(st.lists(st.sampled_from(["ok", "fail", "abandon", "later"]), max_size=300))
def test_the_breakers_count_of_failures_is_that_of_its_window(deeds: list[str]) -> None:
    breaker, now_us = Breaker(), 0
    for deed in deeds:
        now_us += S if deed == "later" else 0
        ticket = breaker.admit(now_us)
        if ticket is not None:
            end(breaker, ticket, deed, now_us)
        assert breaker._failures == sum(failed for _, failed in breaker._outcomes)


def end(breaker: Breaker, ticket: int, deed: str, now_us: int) -> None:
    if deed == "ok":
        breaker.succeeded(ticket, now_us)
    elif deed == "fail":
        breaker.failed(ticket, now_us)
    else:
        breaker.abandoned(ticket)


@given(st.lists(st.text(max_size=30), max_size=5), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(versions: list[str], data: st.DataObject) -> None:
    stream = b"".join(frame(Ready(version)) for version in versions)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    buffer, payloads = FrameBuffer(), []
    for first, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        payloads += buffer.feed(stream[first:end])
    assert [read_reply(payload) for payload in payloads] == [Ready(version) for version in versions]


def test_a_length_above_the_bound_is_not_waited_for() -> None:
    with pytest.raises(Unanswered) as refused:
        FrameBuffer().feed((REPLY_BYTES_MAX + 1).to_bytes(4, "big"))
    assert refused.value.reason is Degraded.UNREADABLE


@given(st.lists(st.text(max_size=60), max_size=12), st.text(st.characters()), st.floats())
@example(["item-é"] * 10_000, "\U0001f300" * (MESSAGE_CHARACTERS_MAX + 1), 0.1)
@example([], "\ud83d", 0.1)
def test_every_true_reply_is_within_its_bound(names: list[str], message: str, number: float) -> None:
    bound = reply_bytes_max(len(names), max((len(name.encode()) for name in names), default=0))
    assert len(frame(Answer([Item(name, number, number) for name in names], number))) - 4 <= bound
    refused = frame(refusal(Degraded.BAD_PARAMETER, message))[4:]
    assert len(refused) <= REPLY_BYTES_MAX
    assert isinstance(read_reply(refused), Refusal)


@given(st.binary(max_size=200))
@example(b"\x82\xa4type\xa5Ready\xa7version\xa1\xff")
@example(b"\x81" * 200_000)
def test_bytes_that_are_no_reply_are_said_to_be_unreadable(payload: bytes) -> None:
    try:
        read_reply(payload)
    except Unanswered as refused:
        assert refused.reason is Degraded.UNREADABLE  # noqa: PT017 - some bytes are replies


NUMBERS = st.one_of(st.none(), st.floats(), st.floats(0, 1))


@given(
    st.lists(st.builds(Item, st.sampled_from("abcdx"), NUMBERS, NUMBERS), max_size=5),
    st.one_of(NUMBERS, st.floats(max_value=0)),
    st.integers(1, 6),
)
def test_what_passes_the_verdict_can_be_shown(items: list[Item], log_propensity: float | None, k: int) -> None:
    try:
        ranking = ranking_of(Answer(items, log_propensity), ITEMS, k)
    except Unanswered:
        return
    chosen = [ranked.candidate.item_id for ranked in ranking.ranked]
    assert len(chosen) == len(set(chosen)) == min(k, len(ITEMS))
    assert set(chosen) <= set(ITEMS)
    propensities = [ranked.propensity for ranked in ranking.ranked if ranked.propensity is not None]
    assert all(0 <= propensity <= 1 for propensity in propensities)
    scores = [ranked.score for ranked in ranking.ranked if ranked.score is not None]
    assert all(abs(score) < float("inf") for score in scores)
    assert log_propensity is None or float("-inf") < log_propensity <= 0


def test_a_policys_own_word_is_one_of_ours_or_none_of_its() -> None:
    words: list[object] = ["bad_parameter", "refused", "timeout", "x" * 10_000, 7, []]
    assert {refusal_of(word) for word in words} == REFUSALS
    assert FAULTS.isdisjoint(REFUSALS)


def test_restarts_come_at_growing_pauses_up_to_a_bound() -> None:
    pauses = [restart_pause_s(failures) for failures in range(2_000)]
    assert pauses == list(accumulate(pauses, max))
    assert (pauses[1] / pauses[0], pauses[-1]) == (2.0, RESTART_PAUSE_S_MAX)


@pytest.mark.parametrize(("text", "cpus"), [("", set()), ("3", {3}), ("0, 2-4", {0, 2, 3, 4})])
def test_processors_are_read_as_people_write_them(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus


def test_a_process_gives_way_before_it_imports_anything_of_size(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    (tmp_path / "policy.py").write_text(
        "import os, sys\nprint(os.nice(0), os.sched_getaffinity(0), sys.argv[1:], __name__, 'msgspec' in sys.modules)\n"
    )
    command = [sys.executable, "-m", "serving_worker.isolation.give_way", "7", str(cpu), "policy", "--mine"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said == f"{os.nice(0) + 7} {{{cpu}}} ['--mine'] __main__ False\n"


def settings_of(**variables: str) -> PolicySettings:
    read = Environment(variables)
    settings = PolicySettings.read(read, ())
    read.refuse_problems()
    return settings


def test_settings_come_from_the_environment() -> None:
    cpu = min(os.sched_getaffinity(0))
    settings = settings_of(
        TAILRACE_RANKERS="mine=my.module:Class",
        TAILRACE_SHADOW_POLICIES="mine:0.25, popularity",
        TAILRACE_REQUEST_BUDGET_MS="40",
        TAILRACE_INFLIGHT_MAX="7",
        TAILRACE_POLICY_PROCESSES="3",
        TAILRACE_POLICY_WAITING_MAX="0",
        TAILRACE_POLICY_MEMORY_MB_MAX="64",
        TAILRACE_POLICY_CPUS=str(cpu),
    )
    assert settings.rankers == {**BUILT_IN, "mine": "my.module:Class"}
    assert settings.shadow == {"mine": 0.25, "popularity": 1.0}
    assert (settings.budget_us, settings.in_flight_max, settings.pool.processes, settings.pool.waiting_max) == (40_000, 7, 3, 0)
    assert settings.pool.host == HostLimits(64 * 1024 * 1024, frozenset({cpu}))


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings_of(
            TAILRACE_RANKERS="popularity=my.module:Class,theirs=no path",
            TAILRACE_SHADOW_POLICIES="popularity:2,popularity:much,nobody",
            TAILRACE_POLICY_CPUS="1-x",
            TAILRACE_REQUEST_BUDGET_MS="1",
        )
    said = "\n".join(refused.value.problems)
    expected = ("'popularity' is both", "'theirs'", "'popularity:2'", "'popularity:much'", "'nobody'", "TAILRACE_POLICY_CPUS")
    assert all(part in said for part in (*expected, "TAILRACE_REQUEST_BUDGET_MS")), said
