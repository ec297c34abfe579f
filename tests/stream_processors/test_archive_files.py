"""Files of the archive, and the chain of entries that names them, without Kafka: on a store in memory and in a directory."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.envelope import FIELD, Source
from schemas.errors import ConfigurationError, PartUnreachable
from schemas.events import Interaction
from stream_processors.archive.check import check
from stream_processors.archive.container import ARCHIVE_RUN, Reading, archived_schema, read_raw, wanted_within, write, write_raw
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.ledger import ArchivedFile, Entry, Ledger
from stream_processors.archive.object_store import ObjectStore
from stream_processors.warehouse.records import Message, OffsetRanges
from stream_processors.warehouse.splice import container_header, splice
from tests.stream_processors.messages import FakeMessage
from tests.stream_processors.warehouse_fixture import interaction

TOPIC_ID = UUID(int=1 << 100 | 5)
SYNC, OWNER = b"s" * 16, b"o" * 16
HEADER = container_header(contract("Interaction").newest.schema)
SCHEMA = archived_schema(HEADER)
KEPT = Source(b"r" * 16, TOPIC_ID, 3, 7, ARCHIVE_RUN)
TOPIC = "tailrace.interactions"

keys = st.none() | st.binary(max_size=80)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3)


def messages_of(kept: list[tuple[bytes | None, list[tuple[str, bytes | None]]]]) -> list[Message]:
    codec = Codec(Interaction)
    return [
        FakeMessage(10 + 2 * at, codec.encode(interaction(at), 7), 1_795_424_805_626 + at, key, named)
        for at, (key, named) in enumerate(kept)
    ]


def seen(message: Message) -> tuple[Any, ...]:
    return (message.offset(), message.timestamp()[1], message.key(), message.value(), message.headers())


@given(st.lists(st.tuples(keys, headers), min_size=1, max_size=6))
def test_records_come_back_bit_for_bit_with_keys_headers_offsets_and_times(kept: Any) -> None:
    messages = messages_of(kept)

    back = Reading(write(SCHEMA, KEPT, messages, SYNC), TOPIC, 3).messages()

    assert [seen(message) for message in back] == [seen(message) for message in messages]


@given(st.lists(st.tuples(keys, headers), min_size=1, max_size=6))
def test_a_file_is_spliced_to_what_the_sink_would_have_sent(kept: Any) -> None:
    messages = messages_of(kept)
    sent = splice(HEADER, Source(OWNER, TOPIC_ID, 3, 7, "r1"), messages, SYNC)

    spliced = Reading(write(SCHEMA, KEPT, messages, SYNC), TOPIC, 3).splice(OWNER, "r1", TOPIC_ID, None, SYNC)

    assert spliced.rows == len(messages)
    assert spliced.columns == tuple(field["name"] for field in json.loads(metadata(sent))["fields"])
    assert [without_kept(row) for row in read(spliced.container)] == read(sent)


def test_of_a_file_only_the_offsets_that_are_wanted_are_spliced() -> None:
    messages = messages_of([(None, [])] * 9)
    wanted = wanted_within(12, 24, OffsetRanges([(16, 19)]))

    spliced = Reading(write(SCHEMA, KEPT, messages, SYNC), TOPIC, 3).splice(OWNER, "r1", TOPIC_ID, wanted, SYNC)

    assert [int.from_bytes(row[FIELD][64:72], "little") for row in read(spliced.container)] == [12, 14, 20, 22]
    assert spliced.rows == 4


def test_records_that_are_no_data_keep_every_byte() -> None:
    values = [None, b"", b"\x01abc", b"\x00\x00", bytes(range(256))]
    messages = [FakeMessage(at, value, 1_795_424_805_626 + at, None, [("h", None)]) for at, value in enumerate(values)]

    back = list(read_raw(write_raw((message, "magic") for message in messages), TOPIC, 3))

    assert [seen(message) for message in back] == [seen(message) for message in messages]


def test_a_file_is_a_container_that_any_avro_reader_reads() -> None:
    row = read(write(SCHEMA, KEPT, messages_of([(b"k", [("h", b"v")])]), SYNC))[0]

    assert (row["_key"], row["_headers"], row["item_id"]) == (b"k", [{"name": "h", "value": b"v"}], "i0")


def read(container: bytes) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", list(fastavro.reader(BytesIO(container))))


def metadata(container: bytes) -> str:
    return str(fastavro.reader(BytesIO(container)).metadata["avro.schema"])


def without_kept(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in {"_key", "_headers"}}


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore("memory:///" if request.param == "memory" else f"file://{tmp_path}/archive", {})


def entry(store: ObjectStore, first: int, end: int, content: bytes | None = None) -> Entry:
    """With one file, which is stored."""
    content = content or write_raw((FakeMessage(offset, b"x"), "magic") for offset in range(first, end))
    made = Entry(TOPIC, TOPIC_ID, 3, first, end, ())
    file = replace(described(content, first, end), name=f"{first}-{end}.raw.{hash(content) & 0xFFFF}.avro")
    store.put_new(f"{made.folder}/{file.name}", content)
    return replace(made, files=(file,))


def described(content: bytes, first: int, end: int) -> ArchivedFile:

    return ArchivedFile("", None, end - first, len(content), hashlib.sha256(content).hexdigest(), first, end, 1, 2)


def test_of_two_entries_for_one_place_the_first_stays(store: ObjectStore) -> None:
    ledger = Ledger(store, f"{TOPIC}/{TOPIC_ID}/3")
    assert ledger.end() == 0
    one, other = entry(store, 0, 10), entry(store, 0, 12)

    assert ledger.append(one)
    assert not ledger.append(other)
    assert ledger.append(one), "an answer that was lost is asked for again"
    assert ledger.end() == 10
    assert ledger.append(entry(store, 10, 15))
    assert [each.end for each in ledger.entries(9, 11)] == [10, 15]

    ledger.sweep(one)
    assert [found.partition.left_over for found in check(store, deep=True)] == [0]


def test_what_a_stopped_archiver_left_is_no_problem_and_is_swept_once_its_place_is_taken(store: ObjectStore) -> None:
    ledger = Ledger(store, f"{TOPIC}/{TOPIC_ID}/3")
    entry(store, 0, 12)
    ledger.append(entry(store, 0, 10))
    entry(store, 10, 20)

    [found] = check(store, deep=True)
    assert (found.problems, found.partition.left_over) == ((), 2)
    [swept] = check(store, deep=False, sweep=True)
    assert swept.partition.left_over == 1, "the one at the chain's end may be under way"


DAMAGES: dict[str, Callable[[Path], object]] = {
    "is missing": lambda path: path.unlink(),
    "was truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "was added to": lambda path: path.write_bytes(path.read_bytes() + b"!"),
    "was altered": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["*.raw.*.avro", f"{0:020d}.json"])
def test_a_file_or_an_entry_that_is_not_as_it_was_written_is_found(damage: str, which: str, tmp_path: Path) -> None:
    store = ObjectStore(f"file://{tmp_path}", {})
    ledger = Ledger(store, f"{TOPIC}/{TOPIC_ID}/3")
    for first in (0, 10):
        ledger.append(entry(store, first, first + 10))
    assert [found.problems for found in check(store, deep=True)] == [()]
    damaged = min(tmp_path.rglob(which))
    DAMAGES[damage](damaged)

    [found] = check(store, deep=True)

    assert len(found.problems) == 1
    problem = found.problems[0]
    assert "missing" in problem.what if damage == "is missing" else damaged.name in problem.path


def test_an_entry_that_overlaps_the_next_is_found(store: ObjectStore) -> None:
    ledger = Ledger(store, f"{TOPIC}/{TOPIC_ID}/3")
    for first, end in ((0, 10), (8, 20)):
        ledger.append(entry(store, first, end))

    [found] = check(store, deep=False)
    assert [problem.what for problem in found.problems] == ["overlaps the one that begins at 8"]


def test_an_entry_under_another_name_is_damage(store: ObjectStore) -> None:
    ledger = Ledger(store, f"{TOPIC}/{TOPIC_ID}/3")
    store.put_new(f"{ledger.folder}/{5:020d}.json", entry(store, 0, 10).as_bytes())

    with pytest.raises(ArchiveDamaged, match="another entry"):
        ledger.end()


@pytest.mark.parametrize("url", ["nowhere", "ftp://host/x", "file:///proc/version/archive"])
def test_a_url_that_names_no_store_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TAILRACE_ARCHIVE_URL"):
        ObjectStore(url, {})


@pytest.mark.parametrize("option", ["aws_foo", "foo"])
def test_an_option_that_no_client_knows_is_a_wrong_setting(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        ObjectStore("s3://bucket/prefix", {option: "x"})


def test_a_directory_that_cannot_be_written_is_unreachable(tmp_path: Path) -> None:
    store = ObjectStore(f"file://{tmp_path}", {})
    (tmp_path / "topic").write_text("a file where a folder should be")

    with pytest.raises(PartUnreachable, match="the archive"):
        store.put_new("topic/x", b"x")
