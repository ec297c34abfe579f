"""What every part of the benchmark stands on: a local stack of its own, and installations in it that come and go."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from deploy.installing import bring_up
from deploy.local.ports import free_port
from deploy.local.stack import stop_stack
from deploy.provision import provision
from deploy.settings import KAFKA_BOOTSTRAP, TOPIC_PREFIX, WAREHOUSE_READ_URL, WAREHOUSE_URL, Installation
from schemas.topics import TOPICS, Topic, topic_name
from tests.faults.stack import LocalStack

ANSWER_TIMEOUT_S = 30
END_LIMIT_S = 20
LOG_TAIL_CHARS = 2000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """One installation: topics of a prefix, and a database."""

    variables: Mapping[str, str]

    def topic(self, topic: Topic) -> str:
        return topic_name(self.variables[TOPIC_PREFIX], topic)

    def command(self, *statements: str) -> None:
        with clickhouse_connect.get_client(dsn=self.variables[WAREHOUSE_URL]) as client:
            for statement in statements:
                client.command(statement)

    def count(self, table: str) -> int:
        with clickhouse_connect.get_client(dsn=self.variables[WAREHOUSE_URL]) as client:
            return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])

    def records(self, topic: Topic) -> int:
        """How many offsets the topic has."""
        admin = AdminClient({"bootstrap.servers": self.variables[KAFKA_BOOTSTRAP], "log_level": 0})
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(self.topic(topic), number): latest for number in range(topic.partitions)}
        answers = admin.list_offsets(asked, request_timeout=ANSWER_TIMEOUT_S)
        return sum(answer.result(ANSWER_TIMEOUT_S).offset for answer in answers.values())

    @contextmanager
    def running(self, *module: str) -> Iterator[subprocess.Popen[bytes]]:
        """`python -m module …` until the block ends. A process that ended by itself fails the run."""
        with tempfile.TemporaryFile() as log:
            command, environment = [sys.executable, "-m", *module], {**os.environ, **self.variables}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield process
                if process.poll():
                    log.seek(0)
                    raise SystemExit(f"{' '.join(module)} failed:\n{log.read().decode()[-LOG_TAIL_CHARS:]}")
            finally:
                _end(process)


@dataclass(frozen=True)
class Ground:
    """The stack. `say` is told how far things are."""

    stack: LocalStack
    say: Say

    @contextmanager
    def place(self, name: str) -> Iterator[Place]:
        """Topics and a database of the part's own, removed afterwards: the merges of what is done would slow what follows."""
        place = Place(self._variables(name, name))
        provision(Installation.from_environment(place.variables))
        try:
            yield place
        finally:
            _drop_database(place)
            _delete_topics(place)

    @contextmanager
    def second_database(self, place: Place, name: str) -> Iterator[Place]:
        """The same topics, with other tables."""
        second = Place(self._variables(place.variables[TOPIC_PREFIX].rstrip("."), name))
        provision(Installation.from_environment(second.variables))
        try:
            yield second
        finally:
            _drop_database(second)

    def _variables(self, prefix: str, database: str) -> dict[str, str]:
        urls = (WAREHOUSE_URL, WAREHOUSE_READ_URL)
        named = {name: urlsplit(self.stack.variables[name])._replace(path=f"/{database}").geturl() for name in urls}
        return {**self.stack.variables, **named, TOPIC_PREFIX: f"{prefix}."}


@contextmanager
def ground(say: Say) -> Iterator[Ground]:
    """A stack in a directory that is thrown away, with its programs from the usual cache."""
    shared = {name: os.environ[name] for name in ("TAILRACE_CACHE", "XDG_CACHE_HOME") if name in os.environ}
    ports = {f"TAILRACE_{part}_PORT": str(free_port()) for part in ("KAFKA", "REGISTRY", "WAREHOUSE")}
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as home:
        try:
            installed = bring_up({**shared, **ports, "TAILRACE_HOME": home}, say)
            yield Ground(LocalStack(Path(home), installed.variables), say)
        finally:
            stop_stack(Path(home))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_LIMIT_S)


def _drop_database(place: Place) -> None:
    place.command(f"DROP DATABASE {urlsplit(place.variables[WAREHOUSE_URL]).path.strip('/')} SYNC")


def _delete_topics(place: Place) -> None:
    admin = AdminClient({"bootstrap.servers": place.variables[KAFKA_BOOTSTRAP], "log_level": 0})
    for future in admin.delete_topics([place.topic(topic) for topic in TOPICS]).values():
        future.result(ANSWER_TIMEOUT_S)
