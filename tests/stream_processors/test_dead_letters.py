from collections.abc import Sequence
from uuid import UUID

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.events import EventId, Header, Interaction, ItemId, Micros, ProducerId, Traffic, UnitId
from stream_processors.warehouse.dead_letters import TRIALS_MAX, reject, search
from stream_processors.warehouse.records import Message
from stream_processors.warehouse.writer_schemas import make_writer
from tests.stream_processors.messages import FakeMessage

WRITER = make_writer(7, contract("Interaction").newest.schema)
GOOD = Codec(Interaction).encode(
    Interaction(
        occurred_at=Micros(1),
        unit_type="user",
        unit_id=UnitId("u"),
        traffic=Traffic.LIVE,
        surface="home",
        item_id=ItemId("i"),
        kind="click",
        event_id=EventId(str(UUID(int=1))),
        producer_id=ProducerId(str(UUID(int=2))),
        producer_seq=0,
    ),
    7,
)


class Engine:
    """Refuses the offsets that it is told to, as the real one does: the whole insert, and only by its error."""

    def __init__(self, *refused: int) -> None:
        self.refused = set(refused)
        self.trials = 0

    def __call__(self, messages: Sequence[Message]) -> str | None:
        self.trials += 1
        bad = self.refused & {message.offset() for message in messages}
        return f"Code: 376. Cannot parse uuid ({len(bad)} rows)" if bad else None


def batch(**values: bytes) -> list[Message]:
    return [FakeMessage(offset, values.get(f"at{offset}", GOOD)) for offset in range(40)]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    engine = Engine()

    assert search(batch(), WRITER, engine, thorough=True) == []
    assert engine.trials == 1


def test_data_that_do_not_read_to_their_last_byte_are_found() -> None:
    found = search(batch(at3=GOOD[:-1], at9=GOOD + b"!", at20=GOOD[:5]), WRITER, Engine(), thorough=False)

    assert [(rejection.offset, rejection.letter.reason) for rejection in found] == [(3, "datum"), (9, "datum"), (20, "datum")]
    assert found[1].letter.error == "1 bytes are left over after the datum"


def test_a_uuid_that_is_none_is_found_without_the_engine() -> None:
    engine = Engine()
    no_uuid = GOOD.replace(str(UUID(int=1)).encode(), b"z" * 36)

    found = search(batch(at5=no_uuid), WRITER, engine, thorough=False)

    assert [(rejection.offset, rejection.letter.reason) for rejection in found] == [(5, "engine")]
    assert engine.trials == 0


def test_the_engine_is_asked_only_by_a_thorough_search_and_only_of_what_reads() -> None:
    engine = Engine(3, 8)

    assert search(batch(at3=GOOD[:-1]), WRITER, engine, thorough=False) != []
    assert engine.trials == 0
    assert [rejection.offset for rejection in search(batch(at3=GOOD[:-1]), WRITER, engine, thorough=True)] == [3, 8]


def test_what_only_the_engine_refuses_is_found_by_halving() -> None:
    engine = Engine(0, 17, 39)

    found = search(batch(), WRITER, engine, thorough=True)

    assert [(rejection.offset, rejection.letter.reason) for rejection in found] == [(0, "engine"), (17, "engine"), (39, "engine")]
    assert engine.trials < 40


def test_searches_that_ask_the_engine_so_often_and_no_more_come_to_an_end() -> None:
    """All of 2,000 records are refused, and each search leaves out what the ones before it found."""
    left: list[Message] = [FakeMessage(offset, GOOD) for offset in range(2000)]
    while left:
        engine = Engine(*range(2000))
        found = {rejection.offset for rejection in search(left, WRITER, engine, thorough=True)}
        assert engine.trials <= TRIALS_MAX
        assert found
        left = [message for message in left if message.offset() not in found]


def test_two_wrong_lengths_do_not_make_up_for_each_other() -> None:
    found = search(batch(at4=GOOD + b"!", at5=GOOD[:-1]), WRITER, Engine(), thorough=False)

    assert [rejection.offset for rejection in found] == [4, 5]


def test_a_dead_letter_holds_the_record_whole() -> None:
    message = FakeMessage(8, b"\x01?", 123, b"key", [("trace", b"1"), ("empty", None)])

    rejection = reject(message, 0, "magic", "e" * 5000)

    letter = rejection.letter
    assert (rejection.offset, rejection.kafka_time_ms) == (8, 123)
    assert (letter.topic, letter.key, letter.value, letter.reason) == ("tailrace.interactions", b"key", b"\x01?", "magic")
    assert letter.headers == (Header("trace", b"1"), Header("empty", b""))
    assert len(letter.error) == 1000


def test_a_schema_id_that_no_column_holds_is_noted_as_none() -> None:
    assert reject(FakeMessage(0, GOOD), 0x7FFFFFFF, "unknown_schema", "").schema_id == 0x7FFFFFFF
    assert reject(FakeMessage(0, GOOD), 0x80000000, "unknown_schema", "").schema_id == 0
