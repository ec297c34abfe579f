"""A ledger: every event that a test emits, once, and what follows from them, counted by hand."""

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from analytics.metrics_catalog import Aggregate, Measure, Metric, MetricKind, Source
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
    ProducerId,
    RecommendationServed,
    RequestId,
    Slot,
    Traffic,
    UnitId,
)

BEGAN_AT = 1_560_000_000_000_000
ENDED_AT = BEGAN_AT + 10**12
SECOND = 1_000_000
ARMS = ("control", "sampled", "fresh")


@dataclass
class Ledger:
    """Everything that was emitted, each event once, in the order of its emission."""

    experiment: ExperimentId
    draw: random.Random
    served: list[RecommendationServed] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)

    def uuid(self) -> str:
        return str(UUID(int=self.draw.getrandbits(128)))

    def serve(self, unit: UnitId, at: int, arm: str | None, *, exposed: bool = True, traffic: Traffic = Traffic.LIVE) -> None:
        """`arm` of None: the layer let the unit into no experiment."""
        ours = (
            Assignment("user", "in", exposed, self.experiment, 1, "layer", arm, 7)
            if arm
            else Assignment("user", "full", exposed=False)
        )
        other = Assignment("user", "in", exposed=True, experiment_id=ExperimentId("other"), revision=1, arm="control")
        slots = tuple(Slot(ItemId(f"item-{n}"), n) for n in range(self.draw.randint(0, 4)))
        self.served.append(
            RecommendationServed(
                occurred_at=Micros(at),
                unit_type="user",
                unit_id=unit,
                traffic=traffic,
                request_id=RequestId(self.uuid()),
                surface=self.draw.choice(["home", "checkout"]),
                policy_id="policy",
                intended_policy_id="policy",
                assignments=(other, ours),
                slots=slots,
                degraded="deadline" if self.draw.random() < 0.2 else None,
                event_id=EventId(self.uuid()),
                producer_id=ProducerId(self.uuid()),
                producer_seq=len(self.served),
            )
        )

    def act(self, unit: UnitId, at: int, kind: str, value: float | None = None, traffic: Traffic = Traffic.LIVE) -> None:
        self.interactions.append(
            Interaction(
                occurred_at=Micros(at),
                unit_type="user",
                unit_id=unit,
                traffic=traffic,
                surface=self.draw.choice(["home", "checkout"]),
                item_id=ItemId("item-0"),
                kind=kind,
                value=value,
                event_id=EventId(self.uuid()),
                producer_id=ProducerId(self.uuid()),
                producer_seq=len(self.interactions),
            )
        )

    def unit(self, number: int) -> UnitId:
        return UnitId(f"{self.experiment}-{number}")

    def first_exposures(self, traffic: Traffic) -> dict[UnitId, tuple[int, str]]:
        """By unit: when it was first exposed, and to which arm."""
        found: dict[UnitId, tuple[int, str]] = {}
        for event in sorted(self.served, key=lambda event: event.occurred_at):
            if event.traffic is traffic and (arm := self.exposed_arm(event)) is not None:
                found.setdefault(event.unit_id, (event.occurred_at, arm))
        return found

    def exposed_arm(self, event: RecommendationServed) -> str | None:
        return next((a.arm for a in event.assignments if a.experiment_id == self.experiment and a.exposed), None)

    def values(self, wanted: Metric, measure: Measure, traffic: Traffic = Traffic.LIVE) -> dict[str, list[float]]:
        """By arm: one number for each unit."""
        sums: dict[UnitId, float] = defaultdict(float)
        exposures = self.first_exposures(traffic)
        for unit, (first_at, _) in exposures.items():
            events: Iterable[RecommendationServed | Interaction] = [*self.served, *self.interactions]
            own = [event for event in events if event.unit_id == unit and event.traffic is traffic]
            sums[unit] = sum(amount(event, measure) for event in own if counts(event, wanted, first_at))
        by_arm: dict[str, list[float]] = defaultdict(list)
        for unit, (_, arm) in exposures.items():
            by_arm[arm].append(float(sums[unit] > 0) if wanted.kind is MetricKind.SHARE else sums[unit])
        return by_arm


def counts(event: RecommendationServed | Interaction, wanted: Metric, first_at: int) -> bool:
    ends_at = first_at + wanted.window_hours * 3600 * SECOND if wanted.window_hours else ENDED_AT
    return first_at <= event.occurred_at < ends_at and wanted.surface in (None, event.surface)


def amount(event: RecommendationServed | Interaction, measure: Measure) -> float:
    if isinstance(event, Interaction):
        if event.kind != measure.interaction:
            return 0
        return 1 if measure.aggregate is Aggregate.COUNT else event.value or 0
    of_requests = {Source.REQUESTS: 1, Source.SLOTS: len(event.slots), Source.DEGRADED_REQUESTS: int(event.degraded is not None)}
    return of_requests.get(measure.source, 0)


def definition(experiment: ExperimentId) -> ExperimentDefinition:
    return ExperimentDefinition(
        experiment_id=experiment,
        revision=1,
        kind=ExperimentKind.AB,
        owner="shelf",
        hypothesis="Sampling finds more.",
        status=ExperimentStatus.RUNNING,
        unit_type="user",
        surfaces=("home",),
        arms=tuple(Arm(arm, 1) for arm in ARMS),
        changed_by="shelf",
        changed_at=Micros(BEGAN_AT),
        effective_at=Micros(BEGAN_AT),
    )
