"""What became of the demo's events: the warehouse against the ledger, the counts against their sources, and the scorecards."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analytics.config import AnalyticsConfig
from analytics.metrics_catalog import choose, load_catalog
from analytics.results import Scorecard
from analytics.scorecard import Question, scorecard
from analytics.warehouse import Warehouse
from deploy.demo import demo_ranking, log_reading, simulated_reading
from deploy.demo.emission import Emission
from deploy.demo.ledger import Comparison, compare_by_source
from deploy.demo.open_bandit import experiment_id
from deploy.demo.open_bandit_log import CAMPAIGNS, POLICIES, Impression
from deploy.demo.result import LOG, USERS, DemoResult, LogCount, UsersCount
from deploy.demo.stored_events import INTERACTIONS, RECOMMENDATIONS, ArmTotals, StoredEvents, stored_events
from deploy.demo.users import Visited
from deploy.settings import WAREHOUSE_READ_URL
from producers.emitter import EmitterStatus
from schemas.events import EventId, Traffic

LOG_METRICS = (log_reading.METRIC,)
USERS_METRICS = (simulated_reading.METRIC, "clicks_per_unit", "degraded_share")


@dataclass(frozen=True, slots=True)
class Emitted:
    """What went in, by the two ways."""

    log: Emission
    users: Visited

    @property
    def ledgers(self) -> Mapping[str, Mapping[str, Mapping[EventId, int]]]:
        """By table, then by source: how many records each event was sent as."""
        return {
            RECOMMENDATIONS: {LOG: Counter(self.log.answers), USERS: self.users.answers},
            INTERACTIONS: {LOG: Counter(self.log.clicks), USERS: self.users.clicks},
        }


def find(variables: Mapping[str, str], log: Sequence[Impression], emitted: Emitted) -> DemoResult:
    """Ask the warehouse that `variables` name, as its reader; stages and seconds are the run's to fill in.

    Raises PartUnreachable.
    """
    with stored_events(variables[WAREHOUSE_READ_URL]) as stored:
        deliveries = _deliveries(stored, emitted)
        totals, dead_letters = stored.totals(), stored.dead_letters()
    log_cards, users_card = _cards(variables)
    return DemoResult(
        deliveries=deliveries,
        dropped=_dropped(emitted.log.status),
        dead_letters=dead_letters,
        logs=_log_counts(log, totals),
        users=_users_count(emitted.users, totals),
        log_cards=log_cards,
        log_reading=log_reading.read_log(log_cards, totals),
        users_card=users_card,
        simulated_reading=simulated_reading.read_simulated(users_card, demo_ranking.truth()),
        stages=(),
        seconds=0.0,
    )


def _deliveries(stored: StoredEvents, emitted: Emitted) -> Mapping[str, Mapping[str, Comparison]]:
    return {table: compare_by_source(ledgers, stored.rows(table)) for table, ledgers in emitted.ledgers.items()}


def _cards(variables: Mapping[str, str]) -> tuple[tuple[Scorecard, ...], Scorecard]:
    config = AnalyticsConfig.from_environment(variables)
    catalog = load_catalog(config.metrics_directories)
    of_log = [
        Question(experiment_id(campaign), choose(catalog, LOG_METRICS), Traffic.LIVE, log_reading.CONTROL)
        for campaign in CAMPAIGNS
    ]
    of_users = Question(demo_ranking.EXPERIMENT, choose(catalog, USERS_METRICS), Traffic.SIMULATED, demo_ranking.POPULARITY)
    with Warehouse(config) as warehouse:
        log_cards = tuple(scorecard(warehouse, question) for question in of_log)
        return log_cards, scorecard(warehouse, of_users)


def _log_counts(log: Sequence[Impression], totals: Sequence[ArmTotals]) -> tuple[LogCount, ...]:
    rows = Counter((impression.policy, impression.campaign) for impression in log)
    clicks = Counter((impression.policy, impression.campaign) for impression in log if impression.clicked)
    arrived = {(total.arm, total.experiment_id): total for total in totals}
    return tuple(
        LogCount(policy, campaign, rows[policy, campaign], clicks[policy, campaign], *_arrived(arrived, policy, campaign))
        for policy in POLICIES
        for campaign in CAMPAIGNS
    )


def _arrived(arrived: Mapping[tuple[str, str], ArmTotals], policy: str, campaign: str) -> tuple[int, int]:
    total = arrived.get((policy, experiment_id(campaign)))
    return (0, 0) if total is None else (total.answers, total.clicks)


def _users_count(visited: Visited, totals: Sequence[ArmTotals]) -> UsersCount:
    return UsersCount(
        users=demo_ranking.VISITS.users,
        requests=len(visited.answers),
        clicks=len(visited.clicks),
        sent_again=visited.sent_again,
        clicks_arrived=sum(total.clicks for total in totals if total.experiment_id == demo_ranking.EXPERIMENT),
    )


def _dropped(status: EmitterStatus) -> dict[str, int]:
    dropped = Counter(status.strays)
    for topic in status.topics:
        dropped.update(topic.dropped)
    return dict(dropped)
