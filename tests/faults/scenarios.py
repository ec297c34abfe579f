"""All scenarios, by name, in the order in which `make faults` runs them."""

from tests.faults import kills
from tests.faults.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (kills.KILL, kills.KILL_BOTH)}
