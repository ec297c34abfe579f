"""A short run of the fault harness: sinks killed at points from a fixed seed and from a fresh one."""

import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.running import command, run
from tests.faults.scenarios import SCENARIOS
from tests.faults.stack import LocalStack

pytestmark = pytest.mark.integration

KILL = SCENARIOS["kill"]
PROTOCOL = "classic"
SHARE = 0.04
"""Four kills a run, of four classes: a session of the group's each."""
FRESH_SEED = secrets.randbelow(1 << 31)


@pytest.fixture(scope="module")
def faulted(stack: Mapping[str, str]) -> LocalStack:
    """The session's stack: its broker and warehouse are not killed here."""
    return LocalStack(Path(stack["TAILRACE_HOME"]), stack)


@pytest.mark.parametrize("seed", [17, FRESH_SEED], ids=["fixed", "fresh"])
def test_sinks_killed_at_drawn_points_leave_nothing_lost_and_nothing_twice(faulted: LocalStack, seed: int) -> None:
    print(command(KILL, seed, PROTOCOL, SHARE))  # noqa: T201 - pytest shows it where the run fails
    outcome = run(faulted, KILL, seed, PROTOCOL, SHARE)

    assert outcome.passed, f"{outcome}\n{outcome.verdict}\n{outcome.trouble}"
    assert sum(outcome.struck.values()) >= 2, outcome.missed
