"""The experiment of the simulated users: a small catalogue, two ways of ranking it, and what each must earn. Pure."""

import math
from dataclasses import dataclass
from typing import Any

from deploy.demo.simulated_reading import Truth
from deploy.demo.simulation import Visits, expected_clicks, expected_clicks_plackett_luce
from schemas.events import (
    Arm,
    BucketRange,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    ItemId,
    Micros,
)
from schemas.experiment_rules import BUCKETS

EXPERIMENT = ExperimentId("demo-ranking")
SURFACE = "demo-home"
UNIT_TYPE = "user"
SLATE_ITEMS = 3
VISITS = Visits(seed=2020, users=500, requests=2_000)

POPULARITY, PLACKETT_LUCE = "popularity", "plackett_luce"
"""Rankers of the serving worker; the arms are named after them."""


@dataclass(frozen=True, slots=True)
class Item:
    """`weight` is what Plackett-Luce draws by; `appeal` the chance of a click, which no ranker is told."""

    item_id: ItemId
    weight: float
    appeal: float


ITEMS = (
    Item(ItemId("linen-shirt"), 1.2, 0.06),
    Item(ItemId("denim-jacket"), 1.0, 0.05),
    Item(ItemId("canvas-bag"), 1.4, 0.07),
    Item(ItemId("rain-coat"), 2.7, 0.12),
    Item(ItemId("wool-scarf"), 4.0, 0.16),
    Item(ItemId("silk-tie"), 0.6, 0.03),
    Item(ItemId("loafers"), 2.5, 0.10),
    Item(ItemId("beanie"), 3.3, 0.14),
    Item(ItemId("chinos"), 1.6, 0.08),
    Item(ItemId("cardigan"), 2.2, 0.11),
    Item(ItemId("belt"), 0.5, 0.02),
    Item(ItemId("sneakers"), 3.0, 0.13),
)
"""In the order of a popularity that has gone stale: what stands first is not what is liked most."""

APPEAL = {item.item_id: item.appeal for item in ITEMS}


def catalogue() -> dict[str, Any]:
    """The document of `serving_worker.catalogue`, where a score is the log of a weight."""
    items = [{"item_id": item.item_id, "score": math.log(item.weight), "source": "catalogue"} for item in ITEMS]
    return {"surfaces": {SURFACE: {"candidate_set_id": "demo", "items": items}}}


def definition(changed_at: Micros) -> ExperimentDefinition:
    return ExperimentDefinition(
        experiment_id=EXPERIMENT,
        revision=1,
        kind=ExperimentKind.AB,
        owner="demo",
        hypothesis="Drawing slates by Plackett-Luce earns more clicks a request than the popularity list.",
        status=ExperimentStatus.RUNNING,
        unit_type=UNIT_TYPE,
        surfaces=(SURFACE,),
        arms=tuple(Arm(ranker, 1, {"policy": ranker}) for ranker in (POPULARITY, PLACKETT_LUCE)),
        changed_by="demo",
        changed_at=changed_at,
        effective_at=changed_at,
        bucket_ranges=(BucketRange(0, BUCKETS),),
        layer_id="demo-layer",
        layer_salt="demo-layer",
        arm_salt="demo-ranking-arms",
    )


def truth() -> Truth:
    weights = {item.item_id: item.weight for item in ITEMS}
    expected = {
        POPULARITY: expected_clicks([item.item_id for item in ITEMS[:SLATE_ITEMS]], APPEAL),
        PLACKETT_LUCE: expected_clicks_plackett_luce(weights, SLATE_ITEMS, APPEAL),
    }
    return Truth(POPULARITY, PLACKETT_LUCE, expected)
