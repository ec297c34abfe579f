"""Events and schema ids for the producers' tests."""

from dataclasses import replace

from producers.errors import SchemaUnavailable
from producers.transport import OutboundRecord
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import (
    Assignment,
    ExperimentId,
    Interaction,
    ItemId,
    Micros,
    ProducerCheckpoint,
    RecommendationServed,
    RequestId,
    Slot,
    Traffic,
    UnitId,
)
from schemas.topics import Topic

SERVED = RecommendationServed(
    occurred_at=Micros(1_700_000_000_000_000),
    unit_type="user",
    unit_id=UnitId("unit-1"),
    traffic=Traffic.SIMULATED,
    request_id=RequestId("request-1"),
    surface="home",
    policy_id="popularity",
    intended_policy_id="popularity",
    assignments=(Assignment("user", "assigned", exposed=True, experiment_id=ExperimentId("ab-1"), revision=1, arm="control"),),
    slots=(Slot(ItemId("a"), 0, propensity=1.0),),
)
CLICK = Interaction(
    occurred_at=Micros(1_700_000_000_000_001),
    unit_type="user",
    unit_id=UnitId("unit-1"),
    traffic=Traffic.SIMULATED,
    surface="home",
    item_id=ItemId("a"),
    kind="click",
)
MALFORMED = replace(SERVED, latency_us="soon")  # type: ignore[arg-type]
"""Of the right type, with a field that its Avro type cannot hold."""


class KnownSchemaIds:
    """A registry that has every schema but for the topics `without` one, once it is up. Its ids are the places of the topics'
    first look-up.
    """

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.ids: dict[str, int] = {}
        self.without: set[str] = set()

    def lookup(self, topic: Topic, version: int | None = None) -> int:  # noqa: ARG002 - each has one version
        if not self.up:
            raise SchemaUnavailable(topic.name, "the registry does not answer", registered=None)
        if topic.name in self.without:
            raise SchemaUnavailable(topic.name, "there is no such schema", registered=False)
        return self.ids.setdefault(topic.name, len(self.ids) + 1)

    def close(self) -> None:
        """It holds nothing."""


def served_of(records: list[OutboundRecord], topic: str = "tailrace.recommendations") -> list[RecommendationServed]:
    codec, writer = Codec(RecommendationServed), parse_physical(contract("RecommendationServed").newest.schema)
    return [codec.decode(record.value, writer) for record in records if record.topic == topic]


def clicks_of(records: list[OutboundRecord], topic: str = "tailrace.interactions") -> list[Interaction]:
    codec, writer = Codec(Interaction), parse_physical(contract("Interaction").newest.schema)
    return [codec.decode(record.value, writer) for record in records if record.topic == topic]


def checkpoints_of(records: list[OutboundRecord], topic: str = "tailrace.producer-checkpoints") -> list[ProducerCheckpoint]:
    codec, writer = Codec(ProducerCheckpoint), parse_physical(contract("ProducerCheckpoint").newest.schema)
    return [codec.decode(record.value, writer) for record in records if record.topic == topic]
