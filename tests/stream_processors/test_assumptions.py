"""What the protocol takes for granted of the warehouse, of its client and of Kafka, pinned on the real parts.

DESIGN.md's argument numbers these assumptions. What other tests pin already stands there by name.
"""

import signal
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode
from uuid import UUID

import pytest
import urllib3
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicCollection, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.settings import Installation
from deploy.warehouse_tables import provision_tables
from schemas.codec import Codec
from schemas.contracts import contract
from schemas.envelope import GUARD, Source
from schemas.events import Interaction
from schemas.topics import INTERACTIONS
from stream_processors.warehouse.clickhouse_writer import Address, ClickHouseWriter
from stream_processors.warehouse.errors import NoAnswer, Refused
from stream_processors.warehouse.ownership import fence
from stream_processors.warehouse.records import Message, Place
from stream_processors.warehouse.splice import splice
from stream_processors.warehouse.writer_schemas import make_writer
from tests.deploy.warehouse_server_process import WRITER, start, stop
from tests.stream_processors.messages import FakeMessage
from tests.stream_processors.warehouse_fixture import Bench, interaction, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMIT_S = 60
TOPIC_ID = UUID(int=7)
BLOCK_ROWS = 50
MADE = make_writer(1, contract("Interaction").newest.schema)
DATA = [Codec(Interaction).encode(interaction(number), 1) for number in range(200 * BLOCK_ROWS)]
SMALL_BLOCKS = {
    "max_block_size": BLOCK_ROWS,  # the embedded engine's, which reads a file; a server's for HTTP bodies is the next
    "max_insert_block_size": BLOCK_ROWS,
    "min_insert_block_size_rows": BLOCK_ROWS,
    "min_insert_block_size_bytes": 0,
}
"""An insert that takes a while: every so many rows are a block of their own."""
SOME_ROWS = 20 * BLOCK_ROWS
SOME_INSERTS = 12


@dataclass(frozen=True)
class Inserts:
    """Inserts into one database as the sink makes them; those in small blocks in the background."""

    url: str
    writer: ClickHouseWriter
    pool: ThreadPoolExecutor

    def fence(self, partition: int) -> bytes:
        return fence(self.writer, TOPIC_ID, Place("interactions", partition))

    def at_once(self, container: bytes) -> None:
        self.writer.insert("interactions", MADE.columns, container, "tailrace test")

    def in_small_blocks(self, container: bytes, comment: str) -> Future[str]:
        statement = f"INSERT INTO interactions ({', '.join(MADE.columns)}) FORMAT Avro"
        return self._in_background(statement, container, comment, **SMALL_BLOCKS)

    def after_a_pause(self, owner: bytes, comment: str) -> Future[str]:
        """One row whose insert runs for a second before it has anything to check."""
        envelope = Source(owner, TOPIC_ID, 0, 1, "live").head() + bytes(16)
        rows = f"SELECT toFixedString(unhex('{envelope.hex()}'), {len(envelope)}) FROM numbers(1) WHERE sleepEachRow(1) = 0"
        return self._in_background(f"INSERT INTO interactions (_envelope) {rows}", b"", comment)

    def running(self, comment: str) -> bool:
        statement = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {comment:String}"
        return self.writer.query(statement + " AND query_kind = 'Insert'", {"comment": comment}).strip() != b"0"

    def rows(self, partition: int = 0) -> int:
        statement = "SELECT count() FROM interactions WHERE _partition = {partition:Int32}"
        return int(self.writer.query(statement, {"partition": str(partition)}))

    def _in_background(self, statement: str, body: bytes, comment: str, **settings: int) -> Future[str]:
        address = Address.from_url(self.url)
        named = {"max_insert_threads": 1, "async_insert": 0, "insert_deduplicate": 0, "log_comment": comment, **settings}
        arguments = urlencode({"database": address.database, "query": statement, **named})
        password = urllib3.make_headers(basic_auth=f"{address.user}:{address.password}")

        def insert() -> str:
            url = f"http://{address}/?{arguments}"
            return urllib3.request("POST", url, body=body, headers=password, retries=False, timeout=LIMIT_S).data.decode()

        return self.pool.submit(insert)


@pytest.fixture
def inserts(bench: Bench) -> Iterator[Inserts]:
    url = bench.environment["TAILRACE_WAREHOUSE_URL"]
    with ThreadPoolExecutor(4) as pool, closing(ClickHouseWriter(url, {}, 1000)) as writer:
        yield Inserts(url, writer, pool)


def container(owner: bytes, rows: int = len(DATA), partition: int = 0) -> bytes:
    messages: list[Message] = [FakeMessage(offset, value) for offset, value in enumerate(DATA[:rows])]
    return splice(MADE.header, Source(owner, TOPIC_ID, partition, 1, "live"), messages, b"s" * 16)


def test_an_insert_is_checked_in_every_block_so_a_fence_that_moves_meanwhile_stops_it(inserts: Inserts) -> None:
    insert = inserts.in_small_blocks(container(inserts.fence(0)), "slow")
    assert eventually(lambda: inserts.rows() > 0, LIMIT_S)

    inserts.fence(0)

    assert "tailrace: not the owner" in insert.result(LIMIT_S)
    assert 0 < inserts.rows() < len(DATA)


def test_an_insert_is_seen_running_before_it_looks_at_the_fence_for_the_first_time(inserts: Inserts) -> None:
    """Its owner goes before it has looked, or comes only then."""
    gone, comes = inserts.fence(0), b"a fresh owner..."
    too_late = inserts.after_a_pause(gone, "too late")
    in_time = inserts.after_a_pause(comes, "in time")
    assert eventually(lambda: inserts.running("too late") and inserts.running("in time"), LIMIT_S)
    key = Source(comes, TOPIC_ID, 0, 1, "live").head()[24:44].hex()

    inserts.writer.command(
        f"INSERT INTO ingest_fence (key, owner) VALUES (unhex('{key}'), unhex('{comes.hex()}'))", "tailrace fence"
    )

    assert "tailrace: not the owner" in too_late.result(LIMIT_S)
    assert in_time.result(LIMIT_S) == ""
    assert inserts.rows() == 1


def test_what_an_insert_that_is_no_longer_running_has_done_is_seen_and_final(inserts: Inserts) -> None:
    """Whether it ended well or was stopped by the fence half way."""
    met = [seen_leaving(inserts, partition) for partition in range(SOME_INSERTS)]

    final = {partition: inserts.rows(partition) for partition in range(SOME_INSERTS)}
    seen = {partition: rows for partition, rows in enumerate(met) if rows is not None}
    assert seen.items() <= final.items()
    assert len(seen) >= SOME_INSERTS // 2, "most were met while they ran"
    assert any(0 < rows < SOME_ROWS for rows in seen.values()), "some were stopped half way"
    assert any(rows == SOME_ROWS for rows in seen.values()), "some were not"


def seen_leaving(inserts: Inserts, partition: int) -> int | None:
    """The rows that are there the moment an insert is no longer running; None where it was never met running."""
    comment = f"insert {partition}"
    insert = inserts.in_small_blocks(container(inserts.fence(partition), SOME_ROWS, partition), comment)
    met = eventually(lambda: inserts.running(comment) or insert.done(), LIMIT_S) and not insert.done()
    if partition % 2 and eventually(lambda: inserts.rows(partition) > 0 or insert.done(), LIMIT_S):
        inserts.fence(partition)
    assert eventually(lambda: not inserts.running(comment), LIMIT_S)
    rows = inserts.rows(partition)
    insert.result(LIMIT_S)
    return rows if met else None


def test_an_insert_that_was_killed_has_ended_when_the_kill_is_answered(inserts: Inserts) -> None:
    insert = inserts.in_small_blocks(container(inserts.fence(0)), "to be killed")
    assert eventually(lambda: inserts.rows() > 0, LIMIT_S)

    inserts.writer.command("KILL QUERY WHERE Settings['log_comment'] = 'to be killed' AND query_kind = 'Insert' SYNC", "test")

    assert not inserts.running("to be killed")
    left = inserts.rows()
    assert "QUERY_WAS_CANCELLED" in insert.result(LIMIT_S)
    assert inserts.rows() == left < len(DATA)


def test_an_insert_of_one_block_is_all_or_nothing_and_one_of_many_is_not(inserts: Inserts) -> None:
    good = container(inserts.fence(0))
    last = good.rindex(GUARD)
    bad = good[:last] + bytes(len(GUARD)) + good[last + len(GUARD) :]

    with pytest.raises(Refused, match="tailrace: misframed"):
        inserts.at_once(bad)
    assert inserts.rows() == 0

    assert "tailrace: misframed" in inserts.in_small_blocks(bad, "in part").result(LIMIT_S)
    assert 0 < inserts.rows() < len(DATA)


def test_a_warehouse_that_was_killed_knows_no_owner_and_still_knows_what_is_held(tmp_path: Path) -> None:
    place = Place("interactions", 0)
    first = start(tmp_path / "data")
    provision_tables(installation_at(first.port))
    with closing(ClickHouseWriter(warehouse_url(first.port), {}, 1000)) as writer:
        owner = fence(writer, TOPIC_ID, place)
        writer.insert("interactions", MADE.columns, container(owner, 10), "before")
        writer.command("INSERT INTO ingest_hold VALUES ('recommendations', 1)", "hold")
    stop(first, signal.SIGKILL)

    second = start(tmp_path / "data")
    with closing(ClickHouseWriter(warehouse_url(second.port), {}, 1000)) as writer:
        with pytest.raises(Refused, match="tailrace: not the owner"):
            writer.insert("interactions", MADE.columns, container(owner, 10), "after")
        fence(writer, TOPIC_ID, place)
        assert writer.query("SELECT count() FROM interactions").strip() == b"10"
        assert writer.query("SELECT joinGet('ingest_hold', 'held', 'recommendations')").strip() == b"1"
        held = Source(fence(writer, TOPIC_ID, place), TOPIC_ID, 0, 1, "live").head() + bytes(16)
        with pytest.raises(Refused, match="tailrace: held"):
            writer.command(f"INSERT INTO recommendations (_envelope) SELECT toFixedString(unhex('{held.hex()}'), 80)", "held")
    assert stop(second) == 0


def warehouse_url(port: int) -> str:
    user, password = WRITER
    return f"http://{user}:{quote(password)}@127.0.0.1:{port}/tailrace"


def installation_at(port: int) -> Installation:
    return Installation("127.0.0.1:1", "http://127.0.0.1:1", warehouse_url(port), "test.", {}, {})


@dataclass
class Deaf:
    """A server that takes each request whole and closes the connection, but for the first question of a client."""

    received: list[bytes] = field(default_factory=list)


@pytest.fixture
def deaf() -> Iterator[tuple[Deaf, str]]:
    kept = Deaf()

    class Handler(socketserver.StreamRequestHandler):
        timeout = LIMIT_S

        def handle(self) -> None:
            line, length = self.rfile.readline(), 0
            while (header := self.rfile.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            if b"system.settings" in line:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\nasync_insert\n")
            else:
                kept.received.append(line)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield kept, f"http://tailrace:secret@127.0.0.1:{server.server_address[1]}/tailrace"
        server.shutdown()
        serving.join(LIMIT_S)


@pytest.mark.parametrize(
    "write",
    [
        lambda writer: writer.insert("interactions", ("_envelope",), b"a batch", "tailrace test"),
        lambda writer: fence(writer, TOPIC_ID, Place("interactions", 0)),
        lambda writer: writer.command("KILL QUERY WHERE 1 SYNC", "tailrace drain"),
    ],
    ids=["insert", "fence write", "kill"],
)
def test_a_request_without_an_answer_is_never_sent_again(
    deaf: tuple[Deaf, str], write: Callable[[ClickHouseWriter], object]
) -> None:
    server, url = deaf
    with closing(ClickHouseWriter(url, {}, 1000)) as writer, pytest.raises(NoAnswer):
        write(writer)

    assert [line.split()[0] for line in server.received] == [b"POST"]


def test_a_records_time_is_kafkas_whatever_its_producer_says(bench: Bench) -> None:
    bench.produce(interactions(bench, 1))
    before_ms = consumed(bench, bench.topic()).timestamp()[1]
    producer = Producer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    topic = bench.topic("producer-checkpoints")
    producer.produce(topic, b"x", partition=0, timestamp=1)
    assert producer.flush(LIMIT_S) == 0

    kind, time_ms = consumed(bench, topic).timestamp()

    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert before_ms <= time_ms < before_ms + LIMIT_S * 1000


def test_a_commit_comes_back_with_the_topic_that_it_was_meant_for(bench: Bench) -> None:
    group, meant = f"{bench.prefix}commits", str(TOPIC_ID)
    with closing(consumer(bench, group)) as committing:
        committing.commit(offsets=[TopicPartition(bench.topic(), 0, 42, metadata=meant)], asynchronous=False)

    with closing(consumer(bench, group)) as asking:
        [position] = asking.committed([TopicPartition(bench.topic(), 0)], timeout=LIMIT_S)

    assert (position.offset, position.metadata) == (42, meant)


@pytest.mark.parametrize("metadata", ["", "another program's", str(TOPIC_ID)], ids=["none", "a stranger's", "another topic's"])
def test_a_commit_that_is_not_for_this_topic_skips_nothing(bench: Bench, metadata: str) -> None:
    bench.produce(interactions(bench, 100))
    partitions = range(INTERACTIONS.partitions)
    positions = [TopicPartition(bench.topic(), partition, 10, metadata=metadata) for partition in partitions]
    with closing(consumer(bench, f"{bench.prefix}warehouse")) as stranger:
        stranger.commit(offsets=positions, asynchronous=False)

    assert bench.drain()["rows"] == 100
    assert bench.counts() == (100, 100)


def test_a_topic_that_is_made_anew_has_another_id_and_starts_at_zero_again(bench: Bench) -> None:
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    name = f"{bench.prefix}made-anew"
    ids = []
    for _ in range(2):
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(LIMIT_S)
        bench.produce([b"x"], name)
        assert consumed(bench, name).offset() == 0
        ids.append(str(admin.describe_topics(TopicCollection([name]))[name].result(LIMIT_S).topic_id))
        admin.delete_topics([name])[name].result(LIMIT_S)
        assert eventually(lambda: name not in admin.list_topics(timeout=LIMIT_S).topics, LIMIT_S)

    assert ids[0] != ids[1]


def consumer(bench: Bench, group: str) -> Consumer:
    return Consumer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "group.id": group})


def consumed(bench: Bench, topic: str) -> KafkaMessage:
    """A topic's first record, of whichever partition has one."""
    with closing(consumer(bench, f"{bench.prefix}reader")) as reader:
        partitions = reader.list_topics(topic, LIMIT_S).topics[topic].partitions
        reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found = reader.poll(LIMIT_S)
    assert found is not None
    assert found.error() is None
    return found
