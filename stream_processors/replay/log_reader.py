"""Kafka as planning and verification ask it: metadata, and a record here and there. Joins no group, commits nothing.

Raises PartUnreachable where the broker does not answer in time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import PartUnreachable
from stream_processors.replay.errors import Gone
from stream_processors.warehouse.kafka_source import ClientOptions, topic_id_of
from stream_processors.warehouse.records import Message, Place

ANSWER_TIMEOUT_S = 10.0
SILENCE_MAX_S = 30.0
"""A broker that gives neither a record nor the end of the log for so long is gone."""
READ_THROUGH_OFFSETS = 5_000
NOBODYS_GROUP = "tailrace-replay"
"""The client wants a name; nobody joins it, and nothing is committed for it."""
_FETCHING: ClientOptions = {"fetch.message.max.bytes": 256 << 10, "fetch.wait.max.ms": 20}
"""A seek waits for the fetch before it."""
_FETCH_RECORDS = 1000
_MOVED = frozenset({
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its public name
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
})  # fmt: skip


class LogReader:
    """One reader of one topic; close it. For one thread."""

    def __init__(self, bootstrap: str, topic: str, options: Mapping[str, str]) -> None:
        client: ClientOptions = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        self._bootstrap, self._topic = bootstrap, topic
        self._admin = AdminClient(client)
        self._consumer = Consumer({**client, **reading(NOBODYS_GROUP), **_FETCHING})
        self._cursor: _Cursor | None = None

    def describe(self) -> tuple[UUID, tuple[int, ...]] | None:
        """The topic's id and partitions, None where there is no such topic."""
        try:
            known = self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
            if self._topic not in known or known[self._topic].error is not None:
                return None
            answers = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=ANSWER_TIMEOUT_S)
            found = answers[self._topic].result()
        except KafkaException as error:
            raise self._unreachable(error) from error
        return topic_id_of(found), tuple(sorted(partition.id for partition in found.partitions))

    def topic_id(self) -> UUID | None:
        """The topic's id, None where there is no such topic. Any thread may ask."""
        try:
            answers = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=ANSWER_TIMEOUT_S)
            return topic_id_of(answers[self._topic].result())
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self._unreachable(error) from error

    def starts(self, partitions: Iterable[int]) -> dict[int, int]:
        """The first offset of each log."""
        return self._offsets(dict.fromkeys(partitions, OffsetSpec.earliest()))  # type: ignore[no-untyped-call,arg-type]

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """The last stable offset of each log: what lies past it may still be aborted."""
        return self._offsets(dict.fromkeys(partitions, OffsetSpec.latest()))  # type: ignore[no-untyped-call,arg-type]

    def offsets_at(self, partitions: Iterable[int], time_ms: int) -> dict[int, int]:
        """The first offset that Kafka took at that time or later; -1 where there is none."""
        return self._offsets(dict.fromkeys(partitions, OffsetSpec.for_timestamp(time_ms)))

    def records(self, partition: int, offset: int) -> Iterator[Message]:
        """From the first record at or past `offset` to the log's end. Raises Gone where the log no longer reaches back so far."""
        self._cursor = None
        return self._read(partition, offset)

    def _read(self, partition: int, offset: int) -> Iterator[Message]:
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        while True:
            first = self._consumer.poll(SILENCE_MAX_S)
            if first is None:
                remedy = f"it gave nothing for {SILENCE_MAX_S:.0f} s; `tailrace doctor` looks at each part"
                raise PartUnreachable("Kafka", str(Place(self._topic, partition)), remedy)
            for message in (first, *self._consumer.consume(_FETCH_RECORDS, 0)):
                error = message.error()
                if error is None:
                    yield cast("Message", message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    return
                elif error.code() in _MOVED:
                    raise Gone(f"{Place(self._topic, partition)} has no offset {offset} any more ({error.str()})")
                else:
                    raise PartUnreachable("Kafka", str(Place(self._topic, partition)), error.str())

    def record(self, partition: int, offset: int) -> Message | None:
        """The first record at or past `offset`, None where there is none. Raises Gone.

        Asked with rising offsets it reads on through what lies near, and seeks what lies far.
        """
        cursor = self._cursor
        if cursor is None or not cursor.near(partition, offset):
            cursor = self._cursor = _Cursor(partition, offset, self._read(partition, offset))
        return cursor.at(offset)

    def close(self) -> None:
        self._consumer.close()

    def _offsets(self, asked: Mapping[int, OffsetSpec]) -> dict[int, int]:
        if not asked:
            return {}
        try:
            answers = self._admin.list_offsets(
                {TopicPartition(self._topic, partition): which for partition, which in asked.items()},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=ANSWER_TIMEOUT_S,
            )
            return {where.partition: answer.result().offset for where, answer in answers.items()}
        except KafkaException as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: KafkaException) -> PartUnreachable:
        remedy = f"`tailrace up` starts one, TAILRACE_KAFKA_BOOTSTRAP names another ({error.args[0].str()})"
        return PartUnreachable("Kafka", self._bootstrap, remedy)


@dataclass(slots=True)
class _Cursor:
    """Where a reader stands in a partition."""

    partition: int
    asked: int
    rest: Iterator[Message]
    last: Message | None = None

    def near(self, partition: int, offset: int) -> bool:
        read = self.asked if self.last is None else self.last.offset()
        return partition == self.partition and self.asked <= offset <= read + READ_THROUGH_OFFSETS

    def at(self, offset: int) -> Message | None:
        self.asked = offset
        while self.last is None or self.last.offset() < offset:
            found = next(self.rest, None)
            if found is None:
                return None
            self.last = found
        return self.last


def reading(group: str) -> ClientOptions:
    """Options of a consumer that reads by offsets alone."""
    return {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
