"""What the harness produces: events that carry their number, spoilt and doubled as a mix asks for. Pure, from a seed.

An event's number stands in the last 48 bits of its id, so that the warehouse can be asked for it.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

from schemas.codec import Codec
from schemas.events import (
    Assignment,
    EventId,
    ExperimentId,
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
from schemas.tables import TABLE_OF_RECORD
from schemas.topics import INTERACTIONS, RECOMMENDATIONS, Topic
from schemas.wire import HEADER_BYTES, frame
from tests.faults.ledger import Entry, Fate, Sound
from tests.faults.poison import PAIR, PAIRED, POISON

PRODUCER_ID = ProducerId("018f0000-0000-7000-8000-ffffffffffff")
NOW_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
ODD_CLOCKS_US = (0, -1, -400 * DAY_US, NOW_US + 400 * DAY_US, NOW_US - 400 * DAY_US, NOW_US + 200 * 365 * DAY_US)
"""When a producer with a wrong clock believes it is: 1970, before it, 400 days off, and two hundred years from now."""
NEWER_FIELD = {"name": "channel", "type": "string", "default": "web"}
"""The field that the second version of Interaction adds, last; NEWER_DATUM is its value 'tel'."""
NEWER_DATUM = b"\x06tel"
EXPOSED = Assignment("user", "assigned", exposed=True, experiment_id=ExperimentId("ab-1"), revision=1, arm="control")
REMEMBERED_MAX = 2000
"""A duplicate is of one of the last so many values."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Which shares of the records are not simply good interactions under the first schema."""

    poison: float = 0.0
    kinds: tuple[str, ...] = (*POISON, PAIR)
    duplicates: float = 0.0
    odd_clocks: float = 0.0
    newer_schema: float = 0.0
    recommendations: float = 0.2


@dataclass(frozen=True, slots=True)
class SchemaIds:
    interaction: int
    newer_interaction: int
    recommendation: int
    stranger: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A record on its way to the broker, and what must become of it."""

    topic: Topic
    key: str
    value: bytes | None
    entry: Entry


@dataclass(slots=True)
class Drafts:
    """An endless supply."""

    ids: SchemaIds
    random: Random
    mix: Mix
    _numbers: dict[str, int] = field(default_factory=dict, init=False)
    _recent: list[Draft] = field(default_factory=list, init=False)
    _codecs: tuple[Codec[Interaction], Codec[RecommendationServed]] = field(init=False)

    def __post_init__(self) -> None:
        self._codecs = Codec(Interaction), Codec(RecommendationServed)

    def take(self, count: int) -> list[Draft]:
        """In another order than that in which they happened. A pair of PAIR counts as one."""
        drafts = [self._draft() for _ in range(count)]
        self.random.shuffle(drafts)
        return [draft for together in drafts for draft in together]

    def _draft(self) -> tuple[Draft, ...]:
        if self._recent and self.random.random() < self.mix.duplicates:
            return (self.random.choice(self._recent),)
        draft = self._good()
        if self.random.random() < self.mix.poison:
            kind = self.random.choice(self.mix.kinds)
            return self._pair(draft) if kind == PAIR else (self._spoilt(draft, kind),)
        self._remember(draft)
        return (draft,)

    def _remember(self, draft: Draft) -> None:
        if len(self._recent) < REMEMBERED_MAX:
            self._recent.append(draft)
        else:
            self._recent[self.random.randrange(REMEMBERED_MAX)] = draft

    def _good(self) -> Draft:
        of_recommendation = self.random.random() < self.mix.recommendations
        return self._good_of(RECOMMENDATIONS if of_recommendation else INTERACTIONS)

    def _good_of(self, topic: Topic) -> Draft:
        number = self._numbers[topic.name] = self._numbers.get(topic.name, 0) + 1
        value = self._recommendation(number) if topic is RECOMMENDATIONS else self._interaction(number)
        return Draft(topic, f"u{number}", value, Entry(table_of(topic), "good", Fate.ROW, number))

    def _pair(self, first: Draft) -> tuple[Draft, Draft]:
        """Two lengths that make up for each other: the batch's length is right, and its last envelope is one byte off."""
        second = replace(self._good_of(first.topic), key=first.key)
        return self._spoilt(first, "one byte short"), self._spoilt(second, "one byte before")

    def _spoilt(self, draft: Draft, kind: str) -> Draft:
        assert draft.value is not None, "a good record has a value"
        value = {**POISON, **PAIRED}[kind](draft.value, self.ids.stranger, self.random)
        sound = Sound(draft.entry.table, draft.entry.number, draft.value)
        spoilt = Entry("dead_letters", kind, Fate.LETTER, zlib.crc32(value or b""), sound)
        return Draft(draft.topic, draft.key, value, spoilt)

    def _interaction(self, number: int) -> bytes:
        value = self._codecs[0].encode(interaction(number, self._clock_us(number)), self.ids.interaction)
        if self.random.random() < self.mix.newer_schema:
            return frame(self.ids.newer_interaction, value[HEADER_BYTES:] + NEWER_DATUM)
        return value

    def _recommendation(self, number: int) -> bytes:
        return self._codecs[1].encode(recommendation(number, self._clock_us(number)), self.ids.recommendation)

    def _clock_us(self, number: int) -> int:
        return self.random.choice(ODD_CLOCKS_US) if self.random.random() < self.mix.odd_clocks else NOW_US + number


def interaction(number: int, occurred_at_us: int) -> Interaction:
    return Interaction(
        occurred_at=Micros(occurred_at_us),
        unit_type="user",
        unit_id=UnitId(f"u{number}"),
        traffic=Traffic.LIVE,
        surface="home",
        item_id=ItemId(f"i{number % 7}"),
        kind="click",
        event_id=event_id(number),
        producer_id=PRODUCER_ID,
        producer_seq=number,
    )


def recommendation(number: int, occurred_at_us: int) -> RecommendationServed:
    """With one exposed assignment, so that the exposures count each event once too."""
    return RecommendationServed(
        occurred_at=Micros(occurred_at_us),
        unit_type="user",
        unit_id=UnitId(f"u{number}"),
        traffic=Traffic.LIVE,
        request_id=RequestId(f"r{number}"),
        surface="home",
        policy_id="popularity",
        intended_policy_id="popularity",
        assignments=(EXPOSED,),
        slots=(Slot(ItemId("a"), 0, propensity=1.0), Slot(ItemId("b"), 1, propensity=0.5)),
        event_id=event_id(number),
        producer_id=PRODUCER_ID,
        producer_seq=number,
    )


def event_id(number: int) -> EventId:
    return EventId(f"018f0000-0000-7000-8000-{number:012x}")


def table_of(topic: Topic) -> str:
    assert topic.record is not None, "the harness writes records only"
    return TABLE_OF_RECORD[topic.record]


def with_newer_field(schema: Mapping[str, object]) -> dict[str, object]:
    """The second version of Interaction's schema."""
    fields = schema["fields"]
    assert isinstance(fields, list), "an Avro record has a list of fields"
    return {**schema, "fields": [*fields, NEWER_FIELD]}
