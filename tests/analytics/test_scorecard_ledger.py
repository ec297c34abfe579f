"""Events counted by hand in Python, and the scorecard of the same events in the real warehouse: they agree exactly."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from analytics.metrics_catalog import Aggregate, Direction, Measure, Metric, MetricKind, Source
from analytics.moments import Moments
from analytics.results import Scorecard
from analytics.scorecard import Question, scorecard
from analytics.statistics.comparison import metric_variance
from analytics.warehouse import Warehouse
from schemas.events import Traffic, UnitId
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import ARMS, BEGAN_AT, SECOND, Ledger, definition

pytestmark = pytest.mark.integration

UNITS = 300


def metric(
    name: str,
    numerator: Measure,
    denominator: Measure | None = None,
    *,
    surface: str | None = None,
    window_hours: int | None = None,
) -> Metric:
    return Metric(
        name=name,
        title=name,
        description=name,
        unit_of_measure="each",
        kind=MetricKind.RATIO if denominator else MetricKind.SHARE if name.startswith("share") else MetricKind.MEAN,
        better=Direction.HIGHER,
        numerator=numerator,
        denominator=denominator,
        surface=surface,
        window_hours=window_hours,
    )


CLICKS = Measure(Source.INTERACTIONS, Aggregate.COUNT, "click")
SPENT = Measure(Source.INTERACTIONS, Aggregate.SUM, "purchase")
REQUESTS = Measure(Source.REQUESTS, Aggregate.COUNT)
DEGRADED = Measure(Source.DEGRADED_REQUESTS, Aggregate.COUNT)
SLOTS = Measure(Source.SLOTS, Aggregate.SUM)
METRICS = (
    metric("clicks", CLICKS),
    metric("share_clicked", CLICKS),
    metric("clicks_by_request", CLICKS, REQUESTS),
    metric("clicks_by_slot", CLICKS, SLOTS),
    metric("degraded_by_request", DEGRADED, REQUESTS),
    metric("spent", SPENT),
    metric("spent_at_checkout_within_an_hour", SPENT, surface="checkout", window_hours=1),
    metric("home_clicks_by_home_request", CLICKS, REQUESTS, surface="home", window_hours=2),
)


def a_life(ledger: Ledger, unit: UnitId, traffic: Traffic) -> None:
    """One unit's requests and interactions, a few of them before its first exposure, or in another arm than the first."""
    draw, arm = ledger.draw, ledger.draw.choice(ARMS)
    at = BEGAN_AT + draw.randrange(10**9)
    for _ in range(draw.randint(1, 6)):
        at += draw.randint(1, 5_000) * SECOND
        in_arm = draw.choice(ARMS) if draw.random() < 0.05 else arm
        ledger.serve(unit, at, None if draw.random() < 0.1 else in_arm, exposed=draw.random() < 0.7, traffic=traffic)
        for _ in range(draw.randint(0, 3)):
            kind = draw.choice(["click", "impression", "purchase"])
            value = draw.choice([None, 9.5, 120.25]) if kind == "purchase" else None
            ledger.act(unit, at + draw.randrange(9_000) * SECOND, kind, value, traffic)


def test_every_count_and_moment_is_what_the_ledger_says(ingest: Ingest, warehouse: Warehouse, ledger: Ledger) -> None:
    for number in range(UNITS):
        a_life(ledger, ledger.unit(number), ledger.draw.choice([Traffic.LIVE, Traffic.LIVE, Traffic.BOT]))
    for records in (ledger.served, ledger.interactions, [definition(ledger.experiment)]):
        ingest.write(records)
    card = scorecard(warehouse, Question(ledger.experiment, METRICS))
    assert_counts(card, ledger)
    cells = {cell.arm: cell for cell in warehouse.snapshot(warehouse.as_of()).cells(ledger.experiment, "live", METRICS)}
    for wanted in METRICS:
        assert_moments(wanted, card, ledger, {arm: cell.moments[wanted.name] for arm, cell in cells.items()})


def assert_counts(card: Scorecard, ledger: Ledger) -> None:
    exposures = ledger.first_exposures(Traffic.LIVE)
    exposed = [(event, arm) for event in ledger.served if event.traffic is Traffic.LIVE and (arm := ledger.exposed_arm(event))]
    arms_seen: dict[UnitId, set[str]] = defaultdict(set)
    for event, arm in exposed:
        arms_seen[event.unit_id].add(arm)
    first_arm = {unit: arm for unit, (_, arm) in exposures.items()}
    wanted = {
        "units": Counter(first_arm.values()),
        "crossovers": Counter(first_arm[unit] for unit, arms in arms_seen.items() if len(arms) > 1),
        "exposed_requests": Counter(first_arm[event.unit_id] for event, _ in exposed),
        "degraded_requests": Counter(first_arm[event.unit_id] for event, _ in exposed if event.degraded),
        "interactions_before_exposure": Counter(
            first_arm[action.unit_id]
            for action in ledger.interactions
            if action.unit_id in exposures and action.occurred_at < exposures[action.unit_id][0]
        ),
    }
    for name, by_arm in wanted.items():
        assert {arm.name: getattr(arm.counts, name) for arm in card.arms} == {arm: by_arm[arm] for arm in ARMS}, name
    assert all(sum(by_arm.values()) > 0 for by_arm in wanted.values()), "the ledger holds something of everything"
    assert card.left_out.interactions_before_exposure == sum(wanted["interactions_before_exposure"].values())


def assert_moments(wanted: Metric, card: Scorecard, ledger: Ledger, moments: Mapping[str, Moments]) -> None:
    numerators = ledger.values(wanted, wanted.numerator)
    denominators = ledger.values(wanted, wanted.denominator) if wanted.denominator else None
    for arm in card.arms:
        above = np.array(numerators[arm.name])
        below = np.array(denominators[arm.name]) if denominators else np.ones_like(above)
        mean = above.sum() / below.sum()
        assert arm.metric_means[wanted.name] == pytest.approx(mean, rel=1e-12), (wanted.name, arm.name)
        linear = (above - mean * below) / below.mean()
        assert metric_variance(moments[arm.name]) == pytest.approx(linear.var(ddof=1), rel=1e-9)
