"""The sink's small rules: how long to gather, how closely to look, when to stop, what a refusal means, what a gap is. Pure."""

from uuid import UUID

import pytest
from confluent_kafka import KafkaError

from stream_processors.warehouse.dead_letter_limit import WINDOW_RECORDS, DeadLetterLimit
from stream_processors.warehouse.errors import meaning
from stream_processors.warehouse.gaps import find_gaps
from stream_processors.warehouse.kafka_source import runs
from stream_processors.warehouse.pacing import BEHIND_AGE_S, BEHIND_RECORDS, Pace
from stream_processors.warehouse.records import Gap, GapReason, OffsetRanges
from stream_processors.warehouse.suspicion import WINDOW_MAX, Look, Suspicion
from tests.stream_processors.messages import FakeMessage

TOPIC = UUID(int=1)


def test_a_quiet_sink_delivers_soon_and_a_busy_one_gathers_up_to_the_limit() -> None:
    pace = Pace(0.05, 0.5)
    assert pace.age_s(partitions=10, lag_records=0) == 0.05
    for _ in range(50):
        pace.note(1.0)

    assert pace.age_s(partitions=10, lag_records=0) == 0.5


def test_a_partition_that_is_behind_waits_longer_for_its_batch_to_fill() -> None:
    assert Pace(0.05, 0.5).age_s(partitions=1, lag_records=BEHIND_RECORDS + 1) == BEHIND_AGE_S


def test_an_age_of_nothing_is_kept() -> None:
    assert Pace(0.0, 0.0).age_s(partitions=3, lag_records=0) == 0.0


def looks(suspicion: Suspicion, *poisoned: bool) -> list[Look]:
    found = []
    for each in poisoned:
        found.append(suspicion.look)
        suspicion = suspicion.after_batch(poisoned=each)
    return [*found, suspicion.look]


def test_one_bad_record_costs_two_looks() -> None:
    assert looks(Suspicion().after_refusal(), True, False, False) == [
        Look.AT_EACH_DATUM,
        Look.AT_EACH_DATUM,
        Look.NOT,
        Look.NOT,
    ]


def test_while_poison_keeps_coming_every_batch_is_looked_at() -> None:
    suspicion = Suspicion().after_refusal()
    for _ in range(10):
        suspicion = suspicion.after_batch(poisoned=True)

    assert looks(suspicion, *[False] * WINDOW_MAX) == [Look.AT_EACH_DATUM] * WINDOW_MAX + [Look.NOT]


def test_a_batch_that_is_refused_after_a_look_is_looked_at_with_the_engine() -> None:
    assert Suspicion().after_refusal().after_refusal().look is Look.WITH_THE_ENGINE
    assert Suspicion().after_refusal().after_refusal().after_refusal().look is Look.WITH_THE_ENGINE


def test_a_partition_stops_when_too_large_a_share_is_poison_and_not_for_a_few() -> None:
    limit = DeadLetterLimit(share_max=0.2, letters_min=100)

    assert not limit.reached(records=99, letters=99)
    assert limit.reached(records=1000, letters=201)
    assert not limit.reached(records=1000, letters=200)


def test_the_share_is_taken_over_the_last_records() -> None:
    limit = DeadLetterLimit(share_max=0.2, letters_min=100)
    limit.note(10_000, 1_900)
    assert not limit.reached(500, 200)
    assert limit.reached(500, 400)
    for _ in range(2):
        limit.note(WINDOW_RECORDS, 0)

    assert not limit.reached(500, 400)


@pytest.mark.parametrize(
    ("code", "text", "outcome", "blames_the_data", "needs_somebody"),
    [
        (252, "Too many parts (3000). Merges are processing significantly slower", "too_many_parts", False, False),
        (252, "Too many partitions for single INSERT block (more than 100)", "too_many_partitions", False, True),
        (395, "tailrace: not the owner", "not_owner", False, False),
        (395, "tailrace: held", "held", False, False),
        (395, "tailrace: misframed", "poison", True, False),
        (376, "Cannot parse uuid", "poison", True, False),
        (243, "Not enough space", "disk_full", False, False),
        (516, "Authentication failed", "forbidden", False, True),
        (60, "Table does not exist", "missing", False, True),
        (0, "HTTP status 500", "refused", False, False),
    ],
)
def test_a_refusal_is_read_by_its_code_and_its_text(
    code: int,
    text: str,
    outcome: str,
    blames_the_data: bool,  # noqa: FBT001 - a table of cases
    needs_somebody: bool,  # noqa: FBT001
) -> None:
    assert meaning(code, f"Code: {code}. DB::Exception: {text}") == (outcome, blames_the_data, needs_somebody)


def gaps(reached: int, present: list[tuple[int, int]], first: int, end: int) -> list[Gap]:
    return find_gaps(TOPIC, reached, OffsetRanges(present), first, end)


def test_what_was_read_before_it_expired_is_no_gap() -> None:
    assert gaps(40, [(40, 100)], first=100, end=200) == []
    assert gaps(100, [], first=100, end=200) == []


def test_what_expired_unread_is_a_gap_but_for_what_is_there() -> None:
    assert gaps(40, [(50, 60)], first=100, end=200) == [
        Gap(TOPIC, GapReason.EXPIRED, 40, 50),
        Gap(TOPIC, GapReason.EXPIRED, 60, 100),
    ]
    assert gaps(0, [], first=7, end=9) == [Gap(TOPIC, GapReason.EXPIRED, 0, 7)]


def test_a_log_that_ends_before_what_was_read_has_lost_records() -> None:
    assert gaps(40, [], first=0, end=30) == [Gap(TOPIC, GapReason.TRUNCATED, 30, 40)]


def test_consumed_messages_fall_into_runs() -> None:
    end = FakeMessage(7, None, error_=KafkaError(KafkaError._PARTITION_EOF))
    broken = FakeMessage(8, None, error_=KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
    found = list(runs([FakeMessage(1, b"a"), FakeMessage(2, b"b"), end, broken, FakeMessage(9, None)]))

    assert [len(run.records) for run in found] == [2, 0, 0, 1]
    assert [run.end for run in found] == [0, 7, 0, 0]
    assert [run.error is None for run in found] == [True, True, False, True]
