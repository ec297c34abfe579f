"""Plans: drawn from their seed alone, and every class of faults gets its share."""

from collections import Counter

import pytest

from tests.faults.running import planned
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.statements import Step, step_of


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_same_seed_gives_the_same_plan_and_another_one_another(scenario: Scenario) -> None:
    first = planned(scenario, 7, 1)

    assert planned(scenario, 7, 1) == first
    assert not first or planned(scenario, 8, 1) != first


def test_a_plan_of_no_faults_is_that_of_a_scenario_whose_faults_are_no_requests() -> None:
    without = {name for name, scenario in SCENARIOS.items() if not planned(scenario, 7, 1)}

    assert without == {"broker", "storm", "recreated", "expired"}


def test_the_sink_is_killed_at_two_hundred_points_spread_over_all_classes() -> None:
    kill = SCENARIOS["kill"]
    labels = Counter(line.split(":")[0] for line in planned(kill, 1, 1))

    assert labels.total() * len(kill.protocols) >= 200
    assert len(labels) == 9
    assert max(labels.values()) - min(labels.values()) <= 1


@pytest.mark.parametrize(
    ("statement", "step"),
    [
        ("INSERT INTO ingest_fence (key, owner) VALUES (unhex('00'), unhex('01'))", Step.FENCE),
        ("SELECT count() FROM system.processes WHERE query_kind = 'Insert'", Step.DRAIN),
        ("\nSELECT 1\nFROM interactions\n UNION ALL SELECT 2 FROM dead_letters", Step.RECONCILE),
        ("SELECT value FROM dead_letters WHERE _partition = 1", Step.READ_LETTERS),
        ("INSERT INTO FUNCTION null('a String') (a) FORMAT Avro", Step.SEARCH),
        ("INSERT INTO interactions (_envelope) FORMAT Avro", Step.INSERT),
        ("INSERT INTO dead_letters (_envelope) FORMAT Avro", Step.INSERT_LETTERS),
        ("INSERT INTO ingest_gaps (topic) VALUES ('t')", Step.OTHER),
        ("SELECT name FROM system.settings", Step.OTHER),
    ],
)
def test_a_request_is_known_by_its_statement(statement: str, step: Step) -> None:
    assert step_of(statement) is step
