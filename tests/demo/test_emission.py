"""The log leaves through an emitter with a queue far smaller than the log, and nothing of it is lost."""

from collections.abc import Iterator
from itertools import count

import pytest

from deploy.demo.emission import emit_log
from deploy.demo.open_bandit_log import Impression
from producers.config import EmitterLimits
from producers.emitter import Emitter
from producers.memory_transport import MemoryTransport
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import EventId, Interaction, Micros, RecommendationServed
from schemas.topics import Topic


class EveryId:
    """A registry that holds every schema."""

    def lookup(self, topic: Topic, version: int | None = None) -> int:  # noqa: ARG002 - one id does
        return 1 + len(topic.name)

    def close(self) -> None:
        pass


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(records_max=50)


@pytest.fixture
def emitter(transport: MemoryTransport) -> Iterator[Emitter]:
    ids = (f"0192d0a0-0000-7000-8000-{number:012x}" for number in count())
    limits = EmitterLimits(queue_events_max=40)
    emitter = Emitter(transport, EveryId(), now_us=lambda: Micros(1), new_id=lambda: next(ids), prefix="", limits=limits)
    yield emitter
    emitter.close(5.0)


def impressions(number: int) -> list[Impression]:
    return [Impression("bts", "men", row, Micros(row), "7", 1, row % 3 == 0, 0.5, ("a", "b", "c", "d")) for row in range(number)]


def events(transport: MemoryTransport, topic: str, record: type[RecommendationServed] | type[Interaction]) -> list[str]:
    writer = parse_physical(contract(record.__name__).newest.schema)
    codec = Codec[RecommendationServed | Interaction](record)
    return [codec.decode(sent.value, writer).event_id for sent in transport.records if sent.topic == topic]


def test_a_log_larger_than_the_queue_is_emitted_whole(emitter: Emitter, transport: MemoryTransport) -> None:
    numbers = count()
    emission = emit_log(emitter, impressions(1_000), lambda: EventId(f"event-{next(numbers)}"))

    assert len(emission.answers) == 1_000
    assert len(emission.clicks) == 334
    assert events(transport, "recommendations", RecommendationServed) == list(emission.answers)
    assert events(transport, "interactions", Interaction) == list(emission.clicks)
    assert [(topic.undelivered, topic.dropped) for topic in emission.status.topics if topic.emitted] == [(0, {})] * 2


def test_the_emitter_is_closed_also_where_an_event_cannot_be_made(emitter: Emitter) -> None:
    def no_id() -> EventId:
        raise RuntimeError("no more ids")

    with pytest.raises(RuntimeError, match="no more ids"):
        emit_log(emitter, impressions(1), no_id)

    assert not emitter.status().alive
