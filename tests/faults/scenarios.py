"""All scenarios, by name, in the order in which `make faults` runs them."""

from tests.faults import contents, kills, losses, members, outages, repairs
from tests.faults.scenario import Scenario

_ALL = (
    kills.KILL,
    kills.LATE_POSTS,
    kills.KILL_BOTH,
    outages.WAREHOUSE,
    outages.SLOW,
    outages.REPEAT,
    outages.BROKER,
    members.STORM,
    members.SLEEPER,
    contents.POISON,
    contents.RARE_POISON,
    contents.HOSTILE,
    repairs.REPAIR,
    losses.RECREATED,
    losses.EXPIRED,
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
