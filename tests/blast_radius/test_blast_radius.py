"""The short form: with the parts behind it gone, a worker answers every request, and the same to the byte."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.events import RecommendationServed
from schemas.topics import RECOMMENDATIONS
from serving_worker.isolation.reasons import Degraded
from tests.blast_radius.arms import POLICY
from tests.blast_radius.disturbances import DISK_HANGING
from tests.blast_radius.figures import (
    AGAIN,
    BEHAVED,
    BEHAVED_AGAIN,
    UNTOUCHED,
    effects,
    failed,
    latency_ms,
    same_bytes,
    upper_bound,
)
from tests.blast_radius.ground import Ground, ground
from tests.blast_radius.load import NONE, Block
from tests.blast_radius.report import met, rows, write
from tests.blast_radius.running import SILENT, compared, conditions, rounds
from tests.blast_radius.serving_metrics import EMITTED, total
from tests.blast_radius.witness import RECOVERY_S, meets, spells
from tests.blast_radius.workers import Load
from tests.missing_parts import stack_needed
from tests.producers.kafka_log import Log
from tests.waiting import eventually

SHORT = Load(100.0, 2.0)
SLEEPS = "a policy sleeps"
GONE = ("all of analysis dead", "kafka hanging", "spool's disk full, kafka dead", DISK_HANGING, "registry dead", SLEEPS)
STALL_MS = 2_000.0
"""Far beyond what a busy machine does to an answer, and far below what any part behind it would hold one up for."""
ARRIVAL_LIMIT_S = 60


@pytest.mark.integration
def test_whatever_is_gone_behind_it_a_worker_answers_all_and_the_same_at_once_and_tells_of_every_fallback(tmp_path: Path) -> None:
    wanted = conditions(GONE)
    with stack_needed(), ground(tmp_path) as stands:
        found = list(rounds(stands, SHORT, wanted, 1, seed=1))
        seen = compared(stands, found, wanted)
        arms = arm_events(stands)
    missing = set() if stands.disk else {DISK_HANGING}
    assert found[0].keys() == {UNTOUCHED, AGAIN, SILENT, BEHAVED, BEHAVED_AGAIN, *GONE} - missing
    for name, block in found[0].items():
        assert Counter(block.statuses) == {"200": 200}, name
        assert max(latency for latency in block.latencies_ms if latency is not None) < STALL_MS, name
        assert same_bytes(seen, name, wanted[name].base), name
    assert 50 < len(seen[0][BEHAVED].statuses) < 150, "those of one arm of two"
    fallbacks = sum(a != b for a, b in zip(found[0][SLEEPS].digests, found[0][BEHAVED].digests, strict=True))
    assert fallbacks > 50, "the arm that sleeps has other answers"
    assert sum(event.degraded is not None for event in arms) >= fallbacks
    assert all(truly_told(event) for event in arms)


def arm_events(ground: Ground) -> list[RecommendationServed]:
    """What the worker with arms has said of its answers, once all of it is in Kafka."""
    log, asked = Log(ground.stack.variables), total(ground.arms, EMITTED)
    found: list[RecommendationServed] = []

    def arrived() -> bool:
        events = log.read(RecommendationServed, RECOMMENDATIONS)
        found[:] = [event for event in events if any(each.experiment_id for each in event.assignments)]
        return len(found) >= asked

    assert eventually(arrived, ARRIVAL_LIMIT_S), f"{len(found)} of {asked}"
    return found


def truly_told(event: RecommendationServed) -> bool:
    """An answer is degraded exactly where another policy than the intended gave it, and only an arm in trouble has such."""
    if event.degraded is None:
        return event.policy_id == event.intended_policy_id
    return event.intended_policy_id == POLICY != event.policy_id and event.degraded in frozenset(Degraded)


def block(latencies: Sequence[float | None], digest: str = "x") -> Block:
    statuses = [NONE if latency is None else "200" for latency in latencies]
    return Block(latencies, statuses, [digest] * len(latencies), 0.1)


def calm(factor: float) -> Block:
    return block([factor * (1 + place / 100) for place in range(100)])


def test_an_effect_is_told_from_what_chance_does() -> None:
    found = [{UNTOUCHED: calm(1), AGAIN: calm(1.2), SILENT: calm(1), "slow": calm(1.5)} for _ in range(20)]
    effect = effects(found, "slow")["p99"]
    assert effect.ratio == pytest.approx(1.5)
    assert effect.excess == pytest.approx(1.5 / 1.2)
    assert effects(found, UNTOUCHED, SILENT)["p50"].ratio == pytest.approx(1.0)


def test_a_request_without_an_answer_has_no_latency_and_has_failed() -> None:
    found = [{UNTOUCHED: block([1.0, None, 3.0]), AGAIN: calm(1)}]
    assert failed(found, UNTOUCHED) == 1
    assert latency_ms(found[0][UNTOUCHED], 0.99) == 3.0
    assert failed([{UNTOUCHED: found[0][UNTOUCHED].only({0, 2})}], UNTOUCHED) == 0


def test_what_came_while_the_machine_was_slow_is_left_out_of_latencies_and_of_nothing_else() -> None:
    found = replace(block([1.0, 50.0, None]), slowed=[False, True, True])
    assert latency_ms(found, 0.99) == 1.0
    assert found.failed == 1
    assert found.slowed_share == pytest.approx(2 / 3)
    assert latency_ms(found.only({1, 2}), 0.99) == 50.0, "all there is"


def test_a_slow_moment_is_one_in_which_the_same_work_takes_longer() -> None:
    took = [0.001] * 5 + [0.01] + [0.001] * 5
    seen = [(number / 10, number / 10 + seconds) for number, seconds in enumerate(took)]
    [(since, until)] = found = spells(seen)
    assert (since, until) == (seen[4][1], seen[5][1] + RECOVERY_S)
    assert spells(seen[:5]) == spells([]) == []
    assert [meets(found, began, began + 0.01) for began in (0.38, 0.45, 0.53, 0.55)] == [False, True, True, False]


def test_one_other_byte_in_one_block_shows() -> None:
    found = [{UNTOUCHED: calm(1), "kafka dead": calm(1)}, {UNTOUCHED: calm(1), "kafka dead": block([1.0] * 100, "y")}]
    assert not same_bytes(found, "kafka dead")
    assert same_bytes(found[:1], "kafka dead")


def test_the_bound_of_a_median_lies_above_it_and_within_the_values() -> None:
    values = [1.0, 1.1, 1.2, 1.3, 5.0]
    assert 1.2 < upper_bound(values) <= 5.0


def test_the_page_says_what_was_met(tmp_path: Path) -> None:
    found = [{UNTOUCHED: calm(1), AGAIN: calm(1), SILENT: calm(1), "kafka dead": calm(1.08), "sink hanging": calm(1.08)}] * 3
    told = rows(found, dict.fromkeys(found[0], UNTOUCHED))
    assert [name for name, row in told.items() if not met(name, row)] == ["sink hanging"]
    write(tmp_path, told, len(found), SHORT, "a machine")
    page = (tmp_path / "blast-radius.md").read_text(encoding="utf-8")
    assert "| kafka dead | 1.62 | 2.15 |" in page
    assert json.loads((tmp_path / "blast-radius.json").read_text(encoding="utf-8"))["conditions"].keys() == told.keys()


def test_a_condition_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no disturbance moon dead"):
        conditions(["moon dead"])
