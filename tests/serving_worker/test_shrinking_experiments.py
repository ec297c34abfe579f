"""A running experiment gives up part of its range: by a file and the commands, on real parts, and as serving then decides."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.experiments.held import held_of
from producers.config import ProducerSettings
from producers.experiment_log import read_to_end
from producers.main import emitter_from_environment, experiment_log_for, now_us
from schemas.events import ExperimentDefinition, ExperimentId, Micros, RecommendationServed, RequestId, Traffic, UnitId
from schemas.experiment_history import QUARANTINE_S
from serving_worker.experiments.assignment import Asker, bucket_of
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import Snapshot, snapshot_of
from tests.schemas.experiment_samples import DOCUMENT
from tests.serving_worker.serve_process import TAILRACE

pytestmark = pytest.mark.integration

HALF = 500_000
FILLED_IN = {"revision", "changed_by", "changed_at", "effective_at"}
WISH = {name: value for name, value in DOCUMENT.items() if name not in FILLED_IN}
SALT = str(DOCUMENT["layer_salt"])
UPPER = [unit for unit in (UnitId(f"unit-{number}") for number in range(200)) if bucket_of(SALT, unit) >= HALF]
EXPOSED, UNSEEN, (FORCED, LATE, LOST, HEIR) = UPPER[:20], UPPER[20:40], UPPER[40:44]


class Desk:
    """An installation, and those who change experiments in it."""

    def __init__(self, installation: Mapping[str, str], directory: Path) -> None:
        self._installation, self._directory = installation, directory

    def run(self, command: str, wish: Mapping[str, Any], *, as_json: bool = True, **variables: str) -> Result:
        path = self._directory / f"{wish['experiment_id']}.json"
        path.write_text(json.dumps(wish), encoding="utf-8")
        named = {**self._installation, **variables}
        return CliRunner().invoke(main, ["experiments", command, str(path), *(["--json"] if as_json else [])], env=named)

    def said(self, command: str, wish: Mapping[str, Any]) -> Any:
        result = self.run(command, wish)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def revisions(self) -> list[ExperimentDefinition]:
        with closing(experiment_log_for(ProducerSettings.from_environment(self._installation))) as log:
            return list(held_of(read_to_end(log, 30)).revisions)

    def expose(self, units: Iterable[UnitId], snapshot: Snapshot, **forced: str) -> None:
        """What a worker with this snapshot says of them, on its way to the topic."""
        emitter = emitter_from_environment(self._installation)
        for unit in units:
            asker = Asker("user", unit, "home", {}, {ExperimentId(name): arm for name, arm in forced.items()})
            assert emitter.emit(served(unit, snapshot, asker))
        emitter.close(30)

    def sink(self) -> None:
        drained = subprocess.run(
            [*TAILRACE, "sink", "--drain"], env={**os.environ, **self._installation}, timeout=120, check=False
        )
        assert drained.returncode == 0


def served(unit: UnitId, snapshot: Snapshot, asker: Asker) -> RecommendationServed:
    decision = decide(snapshot, asker, now_us(), "popularity")
    return RecommendationServed(
        occurred_at=now_us(),
        unit_type="user",
        unit_id=unit,
        traffic=Traffic.FORCED if decision.forced else Traffic.LIVE,
        request_id=RequestId(unit),
        surface="home",
        policy_id=decision.policy_id,
        intended_policy_id=decision.policy_id,
        assignments=decision.assignments,
    )


def arms_of(units: Iterable[UnitId], snapshot: Snapshot, at: Micros) -> list[tuple[str | None, str | None]]:
    """Experiment and arm of each."""
    decisions = [decide(snapshot, Asker("user", unit, "home", {}), at, "popularity") for unit in units]
    return [(each.experiment_id, each.arm) for decision in decisions for each in decision.assignments]


def spans_of(*units: UnitId) -> list[dict[str, int]]:
    return [span(bucket_of(SALT, unit), bucket_of(SALT, unit) + 1) for unit in units]


def span(first: int, end: int) -> dict[str, int]:
    return {"first": first, "end": end}


def test_exposed_units_keep_their_arms_and_the_rest_of_the_range_is_free_after_a_quarantine(
    installation: Mapping[str, str], tmp_path: Path
) -> None:
    desk, shrunk = Desk(installation, tmp_path), {**WISH, "bucket_ranges": [span(0, HALF)]}
    desk.said("apply", WISH)
    before = snapshot_of(desk.revisions())
    desk.expose(EXPOSED, before)
    desk.expose([FORCED], before, another="treatment")

    unheard = desk.run("apply", shrunk)
    assert (unheard.exit_code, "has not heard of ab-1:1" in unheard.stderr) == (3, True)
    desk.sink()
    away = desk.run("apply", shrunk, TAILRACE_WAREHOUSE_READ_URL="http://127.0.0.1:1/tailrace")
    assert (away.exit_code, "127.0.0.1:1" in away.stderr) == (3, True)
    assert len(desk.revisions()) == 1, "nothing was published"

    planned, applied = desk.said("plan", shrunk), desk.said("apply", shrunk)
    assert planned["plan_hash"] == applied["plan_hash"]
    assert applied["settlements"]["ab-1"] == {
        "given_up_buckets": HALF - 20,
        "stays": {"buckets": 20, "units": 20},
        "late": {"buckets": 0, "units": 0},
        "lost": {"buckets": 0, "units": 0},
        "filled_buckets": 0,
    }
    effective_at = applied["changes"][0]["revision"]["effective_at"]
    after = snapshot_of(desk.revisions())
    assert arms_of(EXPOSED, after, effective_at) == arms_of(EXPOSED, before, effective_at)
    assert set(arms_of([*UNSEEN, FORCED], after, effective_at)) == {(None, None)}

    free_at = effective_at + QUARANTINE_S * 1_000_000
    desk.expose([LATE], before)
    desk.sink()
    heir = {**WISH, "experiment_id": "ab-2", "arm_salt": "arm-2", "bucket_ranges": spans_of(HEIR, LOST)}
    early = desk.run("apply", {**heir, "effective_at": free_at - 1})
    assert (early.exit_code, "their bucket ranges overlap" in early.stdout) == (1, True)
    greedy = desk.run("apply", {**heir, "bucket_ranges": spans_of(HEIR, LATE), "effective_at": free_at})
    assert (greedy.exit_code, "exposed units (1 in 1) of ab-1" in greedy.stdout) == (1, True)
    desk.said("apply", {**heir, "effective_at": free_at})

    desk.expose([LOST], before)
    desk.sink()
    told = desk.run("plan", shrunk, as_json=False).stdout
    assert "  keeps 20 buckets with 20 exposed units\n" in told
    assert "  takes back 1 bucket with 1 exposed unit: " in told
    assert "  cannot take back 1 bucket with 1 exposed unit: " in told
    late = desk.said("apply", shrunk)
    assert late["settlements"]["ab-1"]["late"] == late["settlements"]["ab-1"]["lost"] == {"buckets": 1, "units": 1}
    back = snapshot_of(desk.revisions())
    kept = [*EXPOSED, LATE]
    assert arms_of(kept, back, Micros(free_at)) == arms_of(kept, before, effective_at)
    assert [experiment for experiment, _ in arms_of([HEIR, LOST], back, Micros(free_at))] == ["ab-2", "ab-2"]
