"""The auditor's Kafka edge. It reads with read_committed, joins no group, and commits nothing.

A log is read forwards: `next_record` is asked with rising offsets, skips what lies near and seeks what lies far. Raises Shifted
where the log's beginning has overtaken the question, PartUnreachable where the broker does not answer in time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import PartUnreachable
from stream_processors.audit.errors import Shifted
from stream_processors.audit.partitions import Found
from stream_processors.warehouse.kafka_source import position_of, topic_id_of
from stream_processors.warehouse.records import Place, Position

ANSWER_TIMEOUT_S = 10.0
SILENCE_MAX_S = 30.0
"""A broker that gives neither a record nor the end of the log for so long is gone."""
READ_THROUGH_OFFSETS = 20_000
"""What lies at most so far ahead is read through; seeking costs a round trip and throws away what was fetched."""
FETCH_RECORDS_MAX = 5_000
QUEUED_KBYTES_MAX = 16_384

_MOVED = frozenset({
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its public name
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topic:
    """What goes by a topic's name now."""

    topic_id: UUID
    partitions: tuple[int, ...]


class KafkaLog:
    """One reader of all topics; close it."""

    def __init__(self, bootstrap: str, group: str, options: Mapping[str, str]) -> None:
        client: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        self._bootstrap = bootstrap
        self._admin = AdminClient(client)
        reading: dict[str, str | int | float | bool] = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": QUEUED_KBYTES_MAX,
        }
        self._consumer = Consumer({**client, **reading})

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """By name; those that do not exist are left out."""
        try:
            known = self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
            there = [name for name in names if name in known and known[name].error is None]
            if not there:
                return {}
            answers = self._admin.describe_topics(TopicCollection(there), request_timeout=ANSWER_TIMEOUT_S)
            found = {name: answer.result() for name, answer in answers.items()}
        except KafkaException as error:
            raise self._unreachable(error) from error
        return {
            name: Topic(
                topic_id_of(topic),
                tuple(sorted(partition.id for partition in topic.partitions)),
            )
            for name, topic in found.items()
        }

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """The first offset of each log."""
        return self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call] # the client's own

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The last stable offset of each log: what lies past it may still be aborted."""
        return self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call] # the client's own

    def committed(self, places: Iterable[Place]) -> dict[Place, Position]:
        """The sink's offsets, and the topic id that each was committed for; those without are left out."""
        try:
            positions = self._consumer.committed([TopicPartition(*place) for place in places], timeout=ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise self._unreachable(error) from error
        found = ((Place(position.topic, position.partition), position_of(position)) for position in positions)
        return {place: commit for place, commit in found if commit is not None}

    def read(self, place: Place) -> "LogReader":
        return LogReader(self._consumer, place)

    def close(self) -> None:
        self._consumer.close()

    def _offsets(self, places: Iterable[Place], which: OffsetSpec) -> dict[Place, int]:
        asked = {TopicPartition(*place): which for place in places}
        if not asked:
            return {}
        try:
            answers = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_TIMEOUT_S
            )
            return {Place(where.topic, where.partition): answer.result().offset for where, answer in answers.items()}
        except KafkaException as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: KafkaException) -> PartUnreachable:
        remedy = f"`tailrace up` starts one, TAILRACE_KAFKA_BOOTSTRAP names another ({error.args[0].str()})"
        return PartUnreachable("Kafka", self._bootstrap, remedy)


class LogReader:
    """The records of one partition, forwards."""

    def __init__(self, consumer: Consumer, place: Place) -> None:
        self._consumer, self._place = consumer, place
        self._fetched: list[Found] = []
        self._index = 0
        self._position: int | None = None
        """Where the next fetch begins; None before the first question."""
        self._at_end = False

    def next_record(self, offset: int) -> Found | None:
        """The first record at or past `offset`, None where there is none to the log's end. Offsets rise from call to call."""
        while True:
            while self._index < len(self._fetched):
                found = self._fetched[self._index]
                if found.offset >= offset:
                    return found
                self._index += 1
            if self._at_end:
                return None
            if self._position is None or offset > self._position + READ_THROUGH_OFFSETS:
                self._seek(offset)
            self._fetch()

    def _seek(self, offset: int) -> None:
        self._consumer.assign([TopicPartition(*self._place, offset)])
        self._position = offset

    def _fetch(self) -> None:
        """Wait for one message, then take all that has come with it: asked for many at once, the client waits for as many."""
        self._fetched, self._index = [], 0
        first = self._consumer.poll(SILENCE_MAX_S)
        if first is None:
            remedy = f"it gave nothing for {SILENCE_MAX_S:.0f} s; `tailrace doctor` looks at each part"
            raise PartUnreachable("Kafka", str(self._place), remedy)
        for message in (first, *self._consumer.consume(FETCH_RECORDS_MAX, 0)):
            self._take(message)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            found = Found(cast("int", message.offset()), message.timestamp()[1])
            self._fetched.append(found)
            self._position = found.offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            self._at_end = True
        elif error.code() in _MOVED:
            raise Shifted(f"{self._place} no longer has the offset {self._position} ({error.str()})")
        else:
            raise PartUnreachable("Kafka", str(self._place), error.str())
