"""What the consumers do with a partition that was held back, let go of and started again."""

import pytest

from stream_processors.replay.source import ReplaySource
from stream_processors.replay.throttle import Rate
from stream_processors.warehouse.kafka_source import Fetched, KafkaSource
from stream_processors.warehouse.records import Place
from tests.stream_processors.warehouse_fixture import CLASSIC, Bench, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMIT_S = 30


def records(source: KafkaSource | ReplaySource) -> list[int]:
    return [message.offset() for run in source.consume(0.2) for message in run.records]


def test_a_partition_that_was_held_back_when_it_was_let_go_of_is_fetched_when_it_is_started_again(bench: Bench) -> None:
    bench.produce(interactions(bench, 40))
    bootstrap, place = bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], Place(bench.topic(), 0)
    replaying = ReplaySource(bootstrap, {}, {place: (0, 5)}, Rate(lambda: 0.0))
    options = dict(option.split("=") for option in CLASSIC.split(","))
    live = KafkaSource(bootstrap, f"{bench.prefix}held", [bench.topic()], options)

    for source in (replaying, live):
        source.start(place, 0)
        source.hold_back({place})
        source.stop(place)
        source.start(place, 0)
        assert eventually(lambda: bool(records(source)), LIMIT_S)  # noqa: B023 - called at once
        source.close()

    assert replaying.stretches[place].end == 5


def test_a_range_ends_where_it_was_planned_to_and_the_rest_is_not_fetched(bench: Bench) -> None:
    bench.produce(interactions(bench, 40))
    place = Place(bench.topic(), 0)
    source = ReplaySource(bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], {}, {place: (2, 5)}, Rate(lambda: 0.0))
    source.start(place, 2)
    seen: list[Fetched] = []

    def ended() -> bool:
        seen.extend(source.consume(0.2))
        return any(run.end for run in seen)

    assert eventually(ended, LIMIT_S)

    assert [message.offset() for run in seen for message in run.records] == [2, 3, 4]
    assert [run.end for run in seen if not run.records] == [5]
    source.close()
