import struct
from dataclasses import replace
from io import BytesIO
from typing import Any, cast
from uuid import UUID

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.envelope import ENVELOPE_BYTES, FIELD, GUARD, Source, uuid_bytes
from schemas.events import Interaction, Micros
from schemas.tables import load_migrations
from schemas.wire import frame
from stream_processors.warehouse.records import Message, OffsetRanges
from stream_processors.warehouse.splice import container_header, sort_batch, splice, splice_data
from tests.schemas.record_strategies import records
from tests.stream_processors.messages import FakeMessage

SCHEMA = contract("Interaction").newest.schema
SOURCE = Source(owner=b"o" * 16, topic_id=UUID(int=1 << 100 | 5), partition=3, schema_id=7, run="live")
SYNC = b"s" * 16
NOTHING = OffsetRanges()


def read(container: bytes) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", list(fastavro.reader(BytesIO(container))))


def within_the_calendar(event: Interaction) -> Interaction:
    """A plain Avro reader makes datetimes of times, and stops at the year 9999."""
    return replace(event, occurred_at=Micros(event.occurred_at % 10**15), client_occurred_at=None, client_sent_at=None)


@given(st.lists(records(Interaction).map(within_the_calendar), max_size=5))
def test_any_avro_reader_reads_the_container_as_envelopes_and_the_records_as_they_were(events: list[Interaction]) -> None:
    values = [Codec(Interaction).encode(event, 7) for event in events]
    messages: list[Message] = [FakeMessage(10 + index, value, 1000 + index) for index, value in enumerate(values)]

    rows = read(splice(container_header(SCHEMA), SOURCE, messages, SYNC))

    assert [row["item_id"] for row in rows] == [event.item_id for event in events]
    for index, row in enumerate(rows):
        guard, owner, topic_id, partition, schema_id, run, offset, time_ms = struct.unpack("<8s16s16sii16sqq", row[FIELD])
        assert (guard, owner, topic_id) == (GUARD, SOURCE.owner, uuid_bytes(SOURCE.topic_id))
        assert (partition, schema_id, run.rstrip(b"\0"), offset, time_ms) == (3, 7, b"live", 10 + index, 1000 + index)


def test_bare_data_makes_the_same_container() -> None:
    message = FakeMessage(4, b"\x00\x00\x00\x00\x07datum")
    header = container_header(SCHEMA)

    assert splice_data(header, SOURCE, [(4, message.kafka_time_ms, b"datum")], SYNC) == splice(header, SOURCE, [message], SYNC)


def test_a_batch_is_grouped_by_schema_id_and_day_in_offset_order() -> None:
    day_ms = 86_400_000
    frames = {1: b"\x00\x00\x00\x00\x01x", 2: b"\x00\x00\x00\x00\x02x"}
    plan = [(1, 10 * day_ms - 1), (2, 10 * day_ms - 1), (1, 10 * day_ms - 1), (1, 10 * day_ms)]
    messages: list[Message] = [FakeMessage(index, frames[schema], time) for index, (schema, time) in enumerate(plan)]

    ordered = sort_batch(messages, NOTHING)

    assert [(group.schema_id, [m.offset() for m in group.messages]) for group in ordered.groups] == [
        (1, [0, 2]),
        (2, [1]),
        (1, [3]),
    ]
    assert ordered.misframed == []


def test_misframed_records_stand_apart_with_their_reasons() -> None:
    messages: list[Message] = [FakeMessage(0, None), FakeMessage(1, b"\x05"), FakeMessage(2, b"\x00\x00")]

    ordered = sort_batch(messages, NOTHING)

    assert ordered.groups == []
    assert [(message.offset(), error.reason) for message, error in ordered.misframed] == [
        (0, "empty"),
        (1, "magic"),
        (2, "truncated"),
    ]


def test_what_the_warehouse_has_already_is_left_out() -> None:
    messages: list[Message] = [FakeMessage(index, b"\x00\x00\x00\x00\x01x") for index in range(6)]

    [group] = sort_batch(messages, OffsetRanges([(0, 2), (4, 5)])).groups

    assert [message.offset() for message in group.messages] == [2, 3, 5]


def test_the_tables_read_the_envelope_where_it_puts_its_parts() -> None:
    sql = "".join(migration.text for migration in load_migrations())
    places = {"owner": (9, 16), "topic_id": (25, 16), "partition": (41, 4), "schema_id": (45, 4), "run": (49, 16)}
    layout = struct.Struct("<8s16s16sii16sqq")
    sample = layout.pack(
        b"g" * 8, b"o" * 16, b"t" * 16, 0x70707070, 0x63636363, b"r" * 16, 0x6F6F6F6F6F6F6F6F, 0x6D6D6D6D6D6D6D6D
    )

    assert layout.size == ENVELOPE_BYTES
    assert f"_envelope FixedString({ENVELOPE_BYTES}) EPHEMERAL" in sql
    letters = {"owner": b"o", "topic_id": b"t", "partition": b"p", "schema_id": b"c", "run": b"r", "offset": b"o", "time": b"m"}
    for name, (first, size) in {**places, "offset": (65, 8), "time": (73, 8)}.items():
        assert sample[first - 1 : first - 1 + size] == letters[name] * size
        assert f"substring(_envelope, {first}, {size})" in sql


def test_what_lies_before_the_start_is_in_and_is_left_out() -> None:
    present = OffsetRanges([(0, 5), (7, 8)])

    ordered = sort_batch([FakeMessage(offset, frame(1, b"d")) for offset in range(3, 10)], present)

    assert [message.offset() for group in ordered.groups for message in group.messages] == [5, 6, 8, 9]
