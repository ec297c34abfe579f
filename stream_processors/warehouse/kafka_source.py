"""The consumer's edge: the group, what it has given us, and what is fetched.

A partition is fetched only while it is owned. The group's assignment is taken note of and nothing is assigned to the fetcher; the
worker starts a partition where its reconciliation says, and stops it when it gives it up. So there is no position to be reset,
nothing fetched that has to be thrown away by luck, and `auto.offset.reset=error` means what it says. Works on KIP-848 and on
the classic protocol (cooperative-sticky).
"""

from collections.abc import Mapping
from typing import cast
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from schemas.errors import ConfigurationError, PartUnreachable
from schemas.topics import LOG_APPEND_TIME, TIMESTAMP_TYPE
from stream_processors.warehouse.errors import BrokerTrouble
from stream_processors.warehouse.records import Message, Place

ANSWER_TIMEOUT_S = 10.0
FETCH_RECORDS_MAX = 20_000
QUEUED_KBYTES_MAX = 65_536
"""Fetched and not consumed yet, over all partitions: memory stays below this plus one batch a partition."""

ClientOptions = dict[str, str | int | float | bool]

_HALF = (1 << 64) - 1


class KafkaSource:
    """One member of the consumer group. `assigned` is what the group has given us; `fetched`, the part of it that was started."""

    def __init__(self, bootstrap: str, group: str, topics: list[str], options: Mapping[str, str]) -> None:
        self._bootstrap, self._topics = bootstrap, topics
        self.assigned: set[Place] = set()
        self.fetched: set[Place] = set()
        client: ClientOptions = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        self._admin = AdminClient(client)
        self._refuse_unready_topics()
        self._consumer = Consumer(consumer_options(client, group))
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def consume(self, timeout_s: float) -> list[KafkaMessage]:
        """Records and the ends of partitions. Rebalances happen in here: a record may be of a partition no longer `fetched`."""
        return self._consumer.consume(FETCH_RECORDS_MAX, timeout_s)

    def start(self, place: Place, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(*place, offset)])
        self.fetched.add(place)

    def stop(self, place: Place) -> None:
        if place in self.fetched:
            self.fetched.remove(place)
            self._consumer.incremental_unassign([TopicPartition(*place)])

    def commit(self, place: Place, offset: int, topic_id: UUID, *, wait: bool) -> None:
        """Commit `offset`, and for which topic it is meant. A commit says what is true, so a lost one costs reading only."""
        position = TopicPartition(*place, offset, metadata=str(topic_id))
        try:
            if wait:
                self._consumer.commit(offsets=[position], asynchronous=False)
            else:
                self._consumer.commit(offsets=[position], asynchronous=True)
        except KafkaException as error:
            raise BrokerTrouble(f"commit of {place}: {error}") from error

    def committed(self, place: Place) -> tuple[int, UUID] | None:
        """The group's offset and the topic that it was committed for; None where there is none, or none of ours."""
        [position] = self._ask_committed([place])
        return _committed(position)

    def committed_offsets(self, places: list[Place]) -> dict[Place, int]:
        positions = self._ask_committed(places)
        return {place: max(0, position.offset) for place, position in zip(places, positions, strict=True)}

    def first_offset(self, place: Place) -> int:
        return self._offsets([place], OffsetSpec.earliest())[place]

    def ends(self) -> dict[Place, int]:
        """The offset after the last record of every partition of our topics."""
        metadata = self._metadata()
        places = [Place(topic, partition) for topic in self._topics for partition in metadata[topic]]
        return self._offsets(places, OffsetSpec.latest())

    def last_known_end(self, place: Place) -> int:
        """The same without asking: as of the last fetch, -1 where nothing was fetched yet."""
        watermarks = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return watermarks[1] if _answered(watermarks) else -1

    def topic_id(self, topic: str) -> UUID:
        try:
            described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_TIMEOUT_S)
            found = described[topic].result().topic_id
        except KafkaException as error:
            raise BrokerTrouble(f"the id of {topic}: {error}") from error
        high, low = found.get_most_significant_bits(), found.get_least_significant_bits()
        return UUID(int=(high & _HALF) << 64 | (low & _HALF))

    def close(self) -> None:
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned.update(Place(partition.topic, partition.partition) for partition in partitions)
        consumer.incremental_assign([])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = {Place(partition.topic, partition.partition) for partition in partitions}
        self.assigned -= places
        consumer.incremental_unassign([TopicPartition(*place) for place in places & self.fetched])
        self.fetched -= places

    def _offsets(self, places: list[Place], which: OffsetSpec) -> dict[Place, int]:
        """Asked through the admin client: on the consumer's connection the question waits behind a fetch."""
        asked = {TopicPartition(*place): which for place in places}
        try:
            answers = self._admin.list_offsets(asked, request_timeout=ANSWER_TIMEOUT_S)
            return {Place(where.topic, where.partition): answer.result().offset for where, answer in answers.items()}
        except KafkaException as error:
            raise BrokerTrouble(f"the offsets of {', '.join(map(str, places))}: {error}") from error

    def _ask_committed(self, places: list[Place]) -> list[TopicPartition]:
        try:
            return self._consumer.committed([TopicPartition(*place) for place in places], timeout=ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerTrouble(f"the committed offsets: {error}") from error

    def _metadata(self) -> dict[str, list[int]]:
        try:
            topics = self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        except KafkaException as error:
            remedy = f"`tailrace up` starts one, TAILRACE_KAFKA_BOOTSTRAP names another ({error.args[0].str()})"
            raise PartUnreachable("Kafka", self._bootstrap, remedy) from error
        if missing := [topic for topic in self._topics if topic not in topics or topics[topic].error]:
            raise PartUnreachable("topics", self._bootstrap, f"{', '.join(missing)} not found; `tailrace up` creates them")
        return {topic: sorted(topics[topic].partitions) for topic in self._topics}

    def _refuse_unready_topics(self) -> None:
        """Coordinates carry Kafka's clock. Under CreateTime it would be the producer's, and one wrong clock scatters a batch."""
        self._metadata()
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in self._topics]
        answers = self._admin.describe_configs(resources, request_timeout=ANSWER_TIMEOUT_S)
        kinds = {resource.name: answer.result()[TIMESTAMP_TYPE].value for resource, answer in answers.items()}
        wrong = {topic: kind for topic, kind in kinds.items() if kind != LOG_APPEND_TIME}
        if wrong:
            message = "the topic {} has {}={}, not {}"
            raise ConfigurationError(
                tuple(message.format(topic, TIMESTAMP_TYPE, kind, LOG_APPEND_TIME) for topic, kind in wrong.items())
            )


def end_of_partition(message: KafkaMessage) -> int | None:
    """The offset at which a partition ends, None where the message is something else."""
    error = message.error()
    return message.offset() if error is not None and error.code() == KafkaError._PARTITION_EOF else None  # noqa: SLF001 - its public name


def record(message: KafkaMessage) -> Message:
    """A message without an error, in the sink's words."""
    return cast("Message", message)


def place_of(message: KafkaMessage) -> Place:
    """Where a message comes from; an empty topic where it is about no partition."""
    return Place(message.topic() or "", cast("int", message.partition()))


def _answered(watermarks: tuple[int, int] | None) -> bool:
    """The client gives None where the broker was not asked or did not answer, whatever its types say."""
    return watermarks is not None


def _committed(position: TopicPartition) -> tuple[int, UUID] | None:
    if position.offset < 0 or not position.metadata:
        return None
    try:
        return position.offset, UUID(position.metadata)
    except ValueError:
        return None  # committed by another program, for who knows which topic: the log's start is always right


def consumer_options(client: ClientOptions, group: str) -> ClientOptions:
    protocol = client.get("group.protocol", "consumer")
    classic: ClientOptions = {"partition.assignment.strategy": "cooperative-sticky"}
    return {
        "queued.max.messages.kbytes": QUEUED_KBYTES_MAX,
        "fetch.message.max.bytes": 8 << 20,
        **({} if protocol == "consumer" else classic),
        **client,
        "group.id": group,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
