"""Scorecards of a log as analysis assembles them, without a warehouse."""

from analytics.as_of import AsOf
from analytics.metrics_catalog import Aggregate, Direction, Measure, Metric, MetricKind, Source
from analytics.moments import Moments
from analytics.results import ArmCounts, Cell, Completeness, LeftOut, Scorecard
from analytics.scorecard import Answers, Question, assemble
from deploy.demo.log_reading import METRIC
from deploy.demo.stored_events import ArmTotals

IMPRESSIONS = 10_000
ARMS = ("random", "bts")
CLICKS = {"obd-all": (38, 42), "obd-men": (46, 69), "obd-women": (46, 46)}
"""By experiment, in the order of ARMS."""


def clicks_metric(name: str) -> Metric:
    return Metric(
        name=name,
        title="Clicks",
        description="Clicks.",
        unit_of_measure="clicks",
        kind=MetricKind.MEAN,
        better=Direction.HIGHER,
        numerator=Measure(Source.INTERACTIONS, Aggregate.COUNT, "click"),
    )


def card(experiment: str, clicks: tuple[int, int], metric: str = METRIC) -> Scorecard:
    cells = tuple(_cell(arm, count, metric) for arm, count in zip(ARMS, clicks, strict=True))
    answers = Answers(AsOf((), None), (), cells, LeftOut((), 0, 0, 0, 0, 0, 0), Completeness(None, 20_000, 0, 0, None, 0))
    return assemble(Question(experiment, (clicks_metric(metric),), control=ARMS[0]), answers)


def log_cards() -> tuple[Scorecard, ...]:
    return tuple(card(experiment, clicks) for experiment, clicks in CLICKS.items())


def log_totals() -> list[ArmTotals]:
    return [
        ArmTotals(experiment, arm, IMPRESSIONS, count)
        for experiment, clicks in CLICKS.items()
        for arm, count in zip(ARMS, clicks, strict=True)
    ]


def _cell(arm: str, clicks: int, metric: str) -> Cell:
    mean = clicks / IMPRESSIONS
    moments = Moments(IMPRESSIONS, {"numerator": mean}, {("numerator", "numerator"): clicks * (1 - mean)})
    return Cell(1, arm, ArmCounts(units=IMPRESSIONS, exposed_requests=IMPRESSIONS), {metric: moments})
