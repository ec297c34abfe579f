"""The Open Bandit log as Tailrace's events. Pure, and nothing is invented: what the log lacks is null.

Each row is a RecommendationServed of one slot whose unit is the impression itself, since the log names no user. The slot's place
is the log's, counted from 0 instead of 1; its propensity is the log's, which knows of no items beside it. Each click is an
Interaction at the time of its row: the log has no time of the click.
"""

from collections.abc import Iterable

from deploy.demo.open_bandit_log import CAMPAIGNS, FEATURES, POLICIES, Impression
from schemas.events import (
    Arm,
    Assignment,
    EventId,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    Interaction,
    ItemId,
    Micros,
    RecommendationServed,
    RequestId,
    Slot,
    Traffic,
    UnitId,
)

UNIT_TYPE = "impression"
REVISION = 1
CLICK = "click"


def experiment_id(campaign: str) -> ExperimentId:
    return ExperimentId(f"obd-{campaign}")


def served(impression: Impression, event_id: EventId) -> RecommendationServed:
    name = _name(impression)
    return RecommendationServed(
        event_id=event_id,
        occurred_at=impression.shown_at,
        unit_type=UNIT_TYPE,
        unit_id=UnitId(name),
        traffic=Traffic.LIVE,
        request_id=RequestId(name),
        surface=_surface(impression.campaign),
        policy_id=impression.policy,
        intended_policy_id=impression.policy,
        assignments=(_assignment(impression),),
        slots=(Slot(ItemId(impression.item_id), impression.position - 1, propensity=impression.propensity),),
        context=dict(zip(FEATURES, impression.features, strict=True)),
    )


def click(impression: Impression, event_id: EventId) -> Interaction:
    """The click on an impression that was clicked."""
    name = _name(impression)
    return Interaction(
        event_id=event_id,
        occurred_at=impression.shown_at,
        unit_type=UNIT_TYPE,
        unit_id=UnitId(name),
        traffic=Traffic.LIVE,
        surface=_surface(impression.campaign),
        item_id=ItemId(impression.item_id),
        kind=CLICK,
        request_id=RequestId(name),
        position=impression.position - 1,
    )


def definitions(impressions: Iterable[Impression]) -> list[ExperimentDefinition]:
    """One observed experiment a campaign, in force since the log's first impression: the log has no earlier date."""
    began_at = min(impression.shown_at for impression in impressions)
    return [_definition(campaign, began_at) for campaign in CAMPAIGNS]


def _definition(campaign: str, began_at: Micros) -> ExperimentDefinition:
    return ExperimentDefinition(
        experiment_id=experiment_id(campaign),
        revision=REVISION,
        kind=ExperimentKind.OBSERVED,
        owner="demo",
        hypothesis="Thompson sampling (bts) earns more clicks an impression than uniform choice (random).",
        status=ExperimentStatus.ENDED,
        unit_type=UNIT_TYPE,
        surfaces=(_surface(campaign),),
        arms=tuple(Arm(policy, 1) for policy in POLICIES),
        changed_by="demo",
        changed_at=began_at,
        effective_at=began_at,
    )


def _assignment(impression: Impression) -> Assignment:
    return Assignment(
        unit_type=UNIT_TYPE,
        reason="observed",
        exposed=True,
        experiment_id=experiment_id(impression.campaign),
        revision=REVISION,
        arm=impression.policy,
    )


def _name(impression: Impression) -> str:
    return f"obd-{impression.policy}-{impression.campaign}-{impression.row}"


def _surface(campaign: str) -> str:
    return f"zozotown-{campaign}"
