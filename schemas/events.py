"""The records of the topics as Python values. Field names are those of the Avro schemas; times are microseconds since 1970, UTC.

`event_id`, `producer_id` and `producer_seq` of an event are stamped by the emitter at the moment of emission; whoever builds an
event leaves them at their defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

EventId = NewType("EventId", str)
ExperimentId = NewType("ExperimentId", str)
ItemId = NewType("ItemId", str)
Micros = NewType("Micros", int)
ProducerId = NewType("ProducerId", str)
RequestId = NewType("RequestId", str)
UnitId = NewType("UnitId", str)

UNSTAMPED_SEQ = -1
FLAG_POLICY_PREFIX = "flag:"
"""Of the policy_id of a RecommendationServed that only tells an exposure: a flag was evaluated, and no request answered."""


class Traffic(StrEnum):
    """Who asked. Verdicts count one kind at a time."""

    LIVE = "live"
    INTERNAL = "internal"
    BOT = "bot"
    SIMULATED = "simulated"
    FORCED = "forced"


class ExperimentKind(StrEnum):
    AB = "ab"
    AA = "aa"
    """Arms that are alike on purpose: what differs between them is chance, or a fault of the machinery."""
    HOLDBACK = "holdback"
    """Keeps the units of its first arm out of every layer."""
    INTERLEAVED = "interleaved"
    OBSERVED = "observed"
    """Assigned elsewhere and only logged here."""


class ExperimentStatus(StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the emitter adds to an event."""

    event_id: EventId
    producer_id: ProducerId
    producer_seq: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one layer decided for the unit. `experiment_id` and `arm` are None where it entered no experiment, for `reason`."""

    unit_type: str
    reason: str
    exposed: bool
    experiment_id: ExperimentId | None = None
    revision: int | None = None
    layer_id: str | None = None
    arm: str | None = None
    bucket: int | None = None
    triggered: bool | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """One place of the answer, and why the item stands there."""

    item_id: ItemId
    position: int
    score: float | None = None
    propensity: float | None = None
    source: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationServed:
    """One answered request."""

    occurred_at: Micros
    unit_type: str
    unit_id: UnitId
    traffic: Traffic
    request_id: RequestId
    surface: str
    policy_id: str
    intended_policy_id: str
    assignments: tuple[Assignment, ...] = ()
    slots: tuple[Slot, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    session_id: str | None = None
    policy_version: str | None = None
    degraded: str | None = None
    candidate_set_id: str | None = None
    candidate_count: int | None = None
    slate_log_propensity: float | None = None
    latency_us: int | None = None
    event_id: EventId = EventId("")
    producer_id: ProducerId = ProducerId("")
    producer_seq: int = UNSTAMPED_SEQ


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """Something that a unit did with an item."""

    occurred_at: Micros
    unit_type: str
    unit_id: UnitId
    traffic: Traffic
    surface: str
    item_id: ItemId
    kind: str
    request_id: RequestId | None = None
    session_id: str | None = None
    position: int | None = None
    value: float | None = None
    client_occurred_at: Micros | None = None
    client_sent_at: Micros | None = None
    event_id: EventId = EventId("")
    producer_id: ProducerId = ProducerId("")
    producer_seq: int = UNSTAMPED_SEQ


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRanking:
    """What a candidate policy would have answered to a request that another one answered. `failed` says why there is nothing."""

    occurred_at: Micros
    unit_type: str
    unit_id: UnitId
    traffic: Traffic
    request_id: RequestId
    surface: str
    policy_id: str
    live_policy_id: str
    slots: tuple[Slot, ...] = ()
    session_id: str | None = None
    policy_version: str | None = None
    failed: str | None = None
    slate_log_propensity: float | None = None
    latency_us: int | None = None
    event_id: EventId = EventId("")
    producer_id: ProducerId = ProducerId("")
    producer_seq: int = UNSTAMPED_SEQ


@dataclass(frozen=True, slots=True)
class EligibilityRule:
    """`context[key]` is one of `values`."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BucketRange:
    """The buckets `first` (included) to `end` (excluded)."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Arm:
    """`weight` is relative to the other arms' weights."""

    name: str
    weight: int
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDefinition:
    """One revision of an experiment. Its key in the compacted topic is `experiment_id:revision`."""

    experiment_id: ExperimentId
    revision: int
    kind: ExperimentKind
    owner: str
    hypothesis: str
    status: ExperimentStatus
    unit_type: str
    surfaces: tuple[str, ...]
    arms: tuple[Arm, ...]
    changed_by: str
    changed_at: Micros
    effective_at: Micros
    eligibility: tuple[EligibilityRule, ...] = ()
    bucket_ranges: tuple[BucketRange, ...] = ()
    layer_id: str | None = None
    layer_salt: str | None = None
    arm_salt: str | None = None
    ended_at: Micros | None = None
    plan_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ArmCount:
    """Exposures emitted under one arm."""

    experiment_id: ExperimentId
    arm: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerCheckpoint:
    """What one emitter says it has sent to one topic (named without the prefix).

    emitted = acknowledged + queued + spooled + dropped.
    """

    producer_id: ProducerId
    topic: str
    occurred_at: Micros
    next_seq: int
    emitted: int
    acknowledged: int
    queued: int
    spooled: int
    dropped: Mapping[str, int]
    counts: tuple[ArmCount, ...]
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A verdict of a live processor."""

    alert_id: EventId
    raised_at: Micros
    experiment_id: ExperimentId
    monitor: str
    severity: Severity
    message: str
    revision: int | None = None
    arm: str | None = None
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """One header of a Kafka record."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that the warehouse could not take, whole, and why."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    reason: str
    error: str


Event = RecommendationServed | Interaction | ShadowRanking
Record = Event | ExperimentDefinition | ProducerCheckpoint | Alert | DeadLetter
