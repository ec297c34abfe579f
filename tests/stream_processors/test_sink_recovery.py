"""The sink when the world changes under it: topics that lose records, owners that die, parts that hang. On real parts."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import urllib3
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.local.ports import free_port
from deploy.provision import provision
from deploy.settings import Installation
from schemas.tables import TABLE_OF_RECORD
from schemas.topics import TOPICS
from schemas.wire import frame
from tests.stream_processors.warehouse_fixture import CLASSIC, Bench, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMIT_S = 60
ANSWER_LIMIT_S = 30


@contextmanager
def running_sink(bench: Bench, log: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A sink process and the port of its door."""
    port = free_port()
    environment = {**bench.environment, "TAILRACE_METRICS_PORT": str(port), **variables}
    with log.open("ab") as output:
        sink = subprocess.Popen(bench.command("sink"), env=environment, stdout=output, stderr=output)
    try:
        yield sink, port
    finally:
        sink.kill()
        sink.wait(10)


def health(port: int) -> tuple[int, dict[str, Any]]:
    """(status, body) of the door; status 0 while there is no answer."""
    try:
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}/health", retries=False, timeout=5)
    except urllib3.exceptions.HTTPError:
        return 0, {}
    return answer.status, json.loads(answer.data)


def figures(port: int, name: str) -> list[float]:
    """The values of a metric over its labels, empty while there is no answer."""
    try:
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}/metrics", retries=False, timeout=5)
    except urllib3.exceptions.HTTPError:
        return []
    lines = (line.rsplit(" ", 1) for line in answer.data.decode().splitlines())
    return [float(line[1]) for line in lines if line[0].split("{")[0] == f"tailrace_sink_{name}"]


def owned(port: int) -> float:
    """How many partitions the process owns."""
    return sum(figures(port, "owned"))


def partitions(bench: Bench) -> int:
    """How many the sink reads."""
    read = {bench.topic(topic.name) for topic in TOPICS if topic.record in TABLE_OF_RECORD}
    return sum(
        len(found.partitions) for name, found in admin(bench).list_topics(timeout=ANSWER_LIMIT_S).topics.items() if name in read
    )


def admin(bench: Bench) -> AdminClient:
    return AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})


def recorded(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows(
        "SELECT reason, sum(if(isNull(end_offset), -1, end_offset - first_offset)) FROM ingest_gaps FINAL GROUP BY reason"
    )


def test_records_that_expire_unread_are_a_recorded_gap(bench: Bench) -> None:
    bench.produce(interactions(bench, 400))
    bench.drain()
    bench.produce(interactions(bench, 400, first=400))
    ends = bench.rows("SELECT _partition, max(_offset) + 1 FROM interactions GROUP BY _partition")
    expire = [TopicPartition(bench.topic(), partition, end + 10) for partition, end in ends]
    client = admin(bench)  # its answers come only while it lives
    for future in client.delete_records(expire).values():
        future.result(ANSWER_LIMIT_S)

    bench.drain()

    lost = 10 * len(ends)
    assert bench.counts() == (800 - lost, 800 - lost)
    assert recorded(bench) == [("expired", lost)]
    assert bench.drain()["rows"] == 0
    assert recorded(bench) == [("expired", lost)]


def test_a_topic_made_anew_leaves_a_recorded_end_and_its_successor_comes_in_whole(bench: Bench) -> None:
    bench.produce(interactions(bench, 300))
    bench.drain()
    client = admin(bench)
    client.delete_topics([bench.topic()])[bench.topic()].result(ANSWER_LIMIT_S)
    assert eventually(lambda: bench.topic() not in client.list_topics(timeout=5).topics, LIMIT_S), "the topic goes"
    provision(Installation.from_environment(bench.environment))
    bench.produce(interactions(bench, 200, first=300))

    bench.drain()

    assert bench.counts() == (500, 500)
    ends = bench.rows(
        "SELECT count(), countIf(isNull(end_offset)), sum(first_offset) FROM ingest_gaps FINAL WHERE reason = 'recreated'"
    )
    partitions = len(bench.rows("SELECT DISTINCT _partition FROM interactions"))
    assert ends == [(partitions, partitions, 300)]
    bench.drain()
    assert bench.rows("SELECT count() FROM ingest_gaps") == [(partitions,)]


def test_a_topic_that_is_mostly_poison_stops_with_an_alarm_and_nothing_of_it_is_buried(bench: Bench, tmp_path: Path) -> None:
    bench.produce([frame(0x0FFFFF, b"x")] * 2000)
    with running_sink(bench, tmp_path / "log") as (_, port):
        assert eventually(lambda: health(port)[0] == 503, LIMIT_S), "health turns unready"
        stuck = health(port)[1]["stuck"]
        assert {each["topic"] for each in stuck} == {bench.topic()}
        assert "are poison (unknown_schema)" in stuck[0]["why"]
    assert bench.counts("dead_letters") == (0, 0)
    # whoever knows that this is how it should be, says so
    bench.drain(TAILRACE_SINK_DEAD_LETTERS_PERCENT_MAX="100")
    assert bench.counts("dead_letters") == (2000, 2000)


def test_a_dead_owners_partitions_are_taken_over_and_two_processes_share_the_rest(bench: Bench, tmp_path: Path) -> None:
    options = {"TAILRACE_KAFKA_OPTIONS": CLASSIC}
    with (
        running_sink(bench, tmp_path / "one", **options) as (one, first),
        running_sink(bench, tmp_path / "two", **options) as (_, second),
    ):
        assert eventually(lambda: min(owned(first), owned(second)) > 0, LIMIT_S), "both have partitions"
        bench.produce(interactions(bench, 1000))
        assert eventually(lambda: bench.counts() == (1000, 1000), LIMIT_S), "both bring in"
        one.kill()
        bench.produce(interactions(bench, 1000, first=1000))
        assert eventually(lambda: bench.counts() == (2000, 2000), LIMIT_S), "the survivor brings in the rest"
        assert eventually(lambda: owned(second) == partitions(bench), LIMIT_S), "and has all the partitions"


def test_sigterm_ends_within_ten_seconds_though_the_warehouse_hangs(bench: Bench, tmp_path: Path) -> None:
    warehouse = listener(urlsplit(bench.environment["TAILRACE_WAREHOUSE_URL"]).port)
    with running_sink(bench, tmp_path / "log") as (sink, door):
        assert eventually(lambda: owned(door) == partitions(bench), LIMIT_S), "all partitions are owned"
        warehouse.suspend()
        try:
            bench.produce(interactions(bench, 500))
            assert eventually(lambda: sum(figures(door, "bytes_in_hand")) > 0, LIMIT_S), "an insert hangs"
            sink.send_signal(signal.SIGTERM)
            assert sink.wait(10) == 0
        finally:
            warehouse.resume()
    bench.drain()
    assert bench.counts() == (500, 500)


def listener(port: int | None) -> psutil.Process:
    """The process that listens on `port`."""
    connections = (found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN)
    [pid] = {found.pid for found in connections if found.laddr[1:] == (port,)}
    return psutil.Process(pid)
