"""The topic of experiments in Kafka. Reads what is committed, in no consumer group: everybody who asks gets everything.

An aborted apply leaves holes and markers. Where the log ends for a reader is therefore told by the client's end-of-partition
events, which see past them; an idle broker is asked for its end, so that "nothing new" and "no answer" are told apart.
"""

from collections import deque
from collections.abc import Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.errors import SchemaUnavailable
from producers.experiment_log import LogUnavailable, Refused
from producers.writer_schemas import WriterSchemas
from schemas.codec import Codec
from schemas.errors import ConfigurationError, DatumError, WireError
from schemas.events import ExperimentDefinition
from schemas.wire import schema_id_of

RECORDS_MAX = 1_000
"""In one poll."""
METADATA_TIMEOUT_S = 5.0
FETCH_WAIT_MS = 100
"""A broker answers one request of a connection after the other: a question about the end waits for the fetch before it."""
NOWHERE = -1


class KafkaExperimentLog:
    """`topic` is named in full. Owns `schemas`. Raises ConfigurationError where librdkafka refuses `options`."""

    def __init__(self, bootstrap: str, options: Mapping[str, str], schemas: WriterSchemas, topic: str) -> None:
        own = {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "enable.auto.commit": "false",
            "enable.auto.offset.store": "false",
            "enable.partition.eof": "true",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": str(FETCH_WAIT_MS),
            "log_level": "0",  # what goes wrong is raised
        }
        try:
            self._consumer = Consumer({"reconnect.backoff.max.ms": "1000", **options, **own})
        except KafkaException as error:
            raise ConfigurationError((f"TAILRACE_KAFKA_BOOTSTRAP or TAILRACE_KAFKA_OPTIONS: {error.args[0].str()}",)) from error
        self._schemas, self._topic = schemas, topic
        self._codec = Codec(ExperimentDefinition)
        self._next: dict[int, int] = {}
        """By partition, the offset that comes next, or NOWHERE before any was seen."""
        self._waiting: deque[Message] = deque()

    def poll(self, timeout_s: float) -> tuple[ExperimentDefinition | Refused, ...]:
        self._assign()
        trouble = None if self._waiting else self._fetch(timeout_s)
        found: list[ExperimentDefinition | Refused] = []
        try:
            while self._waiting:
                found.append(self._read(self._waiting[0]))
                self._waiting.popleft()
        except LogUnavailable:
            if not found:
                raise
        if trouble is not None and not found:
            raise LogUnavailable(f"{self._topic}: {trouble}")
        return tuple(found)

    def caught_up(self, timeout_s: float) -> bool:
        self._assign()
        try:
            ends = {
                partition: self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=timeout_s)[1]
                for partition in self._next
            }
        except KafkaException as error:
            raise LogUnavailable(f"{self._topic}: {_said(error)}") from error
        return not self._waiting and all(self._next[partition] >= end for partition, end in ends.items())

    def close(self) -> None:
        self._consumer.close()
        self._schemas.close()

    def _assign(self) -> None:
        if self._next:
            return
        try:
            found = self._consumer.list_topics(self._topic, timeout=METADATA_TIMEOUT_S).topics[self._topic]
        except KafkaException as error:
            raise LogUnavailable(f"{self._topic}: {_said(error)}") from error
        if found.error is not None or not found.partitions:
            raise LogUnavailable(f"{self._topic}: there is no such topic; `tailrace up` makes it")
        self._consumer.assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in found.partitions])
        self._next = dict.fromkeys(found.partitions, NOWHERE)

    def _fetch(self, timeout_s: float) -> str | None:
        """Take what has come; what is wrong beside it, if anything is."""
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(RECORDS_MAX, 0)]
        troubles = [self._take(message) for message in messages]
        return next(filter(None, troubles), None)

    def _take(self, message: Message) -> str | None:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return error.str()
        assert partition is not None, "a message of the log has a partition"
        assert offset is not None, "and an offset"
        if error is None:
            self._waiting.append(message)
        self._next[partition] = offset + (error is None)
        return None

    def _read(self, message: Message) -> ExperimentDefinition | Refused:
        value, key = message.value(), (message.key() or b"").decode("utf-8", "replace")
        where = f"{self._topic}[{message.partition()}] at {message.offset()}"
        if value is None:
            return Refused(where, key, "a tombstone: revisions are ended, not taken away")
        try:
            found = self._codec.decode(value, self._schemas.schema(schema_id_of(value)))
        except (WireError, DatumError) as error:
            return Refused(where, key, str(error))
        except SchemaUnavailable as error:
            raise LogUnavailable(str(error)) from error
        if key != f"{found.experiment_id}:{found.revision}":
            return Refused(where, key, f"the key is not that of {found.experiment_id}:{found.revision}")
        return found


def _said(error: KafkaException) -> str:
    kafka_error: KafkaError = error.args[0]
    return kafka_error.str()
