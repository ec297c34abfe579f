"""What one run of the demo found, as immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass

from analytics.results import Scorecard
from deploy.demo.ledger import Comparison
from deploy.demo.log_reading import LogReading
from deploy.demo.simulated_reading import SimulatedReading
from deploy.demo.stages import Stage

LOG = "open bandit log"
USERS = "simulated users"


@dataclass(frozen=True, slots=True)
class LogCount:
    """One log: what its file says, and what analysis counts of it."""

    policy: str
    campaign: str
    rows: int
    clicks: int
    rows_arrived: int
    clicks_arrived: int

    @property
    def agrees(self) -> bool:
        return (self.rows, self.clicks) == (self.rows_arrived, self.clicks_arrived)


@dataclass(frozen=True, slots=True)
class UsersCount:
    """What the simulated users did over HTTP. `sent_again` are requests repeated on purpose under the same idempotency key."""

    users: int
    requests: int
    clicks: int
    sent_again: int
    clicks_arrived: int

    @property
    def agrees(self) -> bool:
        return self.clicks == self.clicks_arrived


@dataclass(frozen=True, slots=True)
class DemoResult:
    """`deliveries` by topic, then by source."""

    deliveries: Mapping[str, Mapping[str, Comparison]]
    dropped: Mapping[str, int]
    dead_letters: int
    logs: tuple[LogCount, ...]
    users: UsersCount
    log_cards: tuple[Scorecard, ...]
    log_reading: LogReading
    users_card: Scorecard
    simulated_reading: SimulatedReading
    stages: tuple[Stage, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Everything arrived, once, and analysis counts what the sources say."""
        compared = [comparison for by_source in self.deliveries.values() for comparison in by_source.values()]
        counts = [*(log.agrees for log in self.logs), self.users.agrees]
        return all(comparison.clean for comparison in compared) and all(counts) and not self.dropped and not self.dead_letters
