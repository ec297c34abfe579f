"""The consumer's edge: the group, what it has given us, and what is fetched.

A partition is fetched only while it is owned. The group's assignment is taken note of and nothing is assigned to the fetcher; the
worker starts a partition where its reconciliation says, and stops it when it gives it up. So there is no position to be reset,
nothing fetched that has to be thrown away by luck, and `auto.offset.reset=error` means what it says. Works on KIP-848 and on
the classic protocol (cooperative-sticky).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby, repeat
from operator import is_, itemgetter, methodcaller
from threading import Lock
from typing import Any, NamedTuple, cast
from uuid import UUID

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, MemberDescription, OffsetSpec, ResourceType

from schemas.errors import ConfigurationError, PartUnreachable
from schemas.topics import LOG_APPEND_TIME, TIMESTAMP_TYPE
from stream_processors.warehouse.errors import BrokerTrouble, NotOurs
from stream_processors.warehouse.records import Message, Place, Position

ANSWER_TIMEOUT_S = 10.0
FETCH_RECORDS_MAX = 20_000
QUEUED_KBYTES_MAX = 65_536
"""Fetched and not consumed yet, over all partitions: memory stays below this plus the worker's own limit."""

ClientOptions = dict[str, str | int | float | bool]

_HALF = (1 << 64) - 1
_TOPIC, _PARTITION, _ERROR = methodcaller("topic"), methodcaller("partition"), methodcaller("error")


class Fetched(NamedTuple):
    """What came of one partition: records; or, where there are none, the offset at which it ends; or an error.

    An error about no partition has an empty topic in its place.
    """

    place: Place
    records: Sequence[Message]
    end: int = 0
    error: KafkaError | None = None


class KafkaSource:
    """One member of the consumer group. `assigned` is what the group has given us; `fetched`, the part of it that was started.

    What goes to the consumer is for one thread, and so are the two sets: a call of another thread would wait for as long as this
    one consumes. The questions are for any: whether a partition is ours, committed offsets, bounds, topic ids.
    """

    def __init__(self, bootstrap: str, group: str, topics: list[str], options: Mapping[str, str]) -> None:
        self._bootstrap, self._group, self._topics = bootstrap, group, topics
        self.assigned: set[Place] = set()
        self.fetched: set[Place] = set()
        self._paused: set[Place] = set()
        self._member_id = ""
        client: ClientOptions = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        self._admin = AdminClient(client)
        self._refuse_unready_topics()
        self._asker = Consumer({**consumer_options(client, group), "group.protocol": "classic"})
        self._asking = Lock()
        self._consumer = Consumer(consumer_options(client, group))
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def consume(self, timeout_s: float) -> Iterable[Fetched]:
        """What has come. Rebalances happen in here: a record may be of a partition no longer `fetched`."""
        return runs(cast("Sequence[Message]", self._consumer.consume(FETCH_RECORDS_MAX, timeout_s)))

    def start(self, place: Place, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(*place, offset)])
        self._consumer.resume([TopicPartition(*place)])  # the client remembers a pause over an assignment
        self.fetched.add(place)

    def stop(self, place: Place) -> None:
        if place in self.fetched:
            self.fetched.remove(place)
            self._paused.discard(place)
            self._consumer.incremental_unassign([TopicPartition(*place)])

    def hold_back(self, places: AbstractSet[Place]) -> None:
        """Fetch all that was started but `places`. What is fetched of a paused partition and not consumed yet is let go of."""
        places = places & self.fetched
        if pausing := places - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in pausing])
        if resuming := self._paused - places:
            self._consumer.resume([TopicPartition(*place) for place in resuming])
        self._paused = set(places)

    def commit(self, positions: Mapping[Place, Position]) -> None:
        """Send word that all below these offsets is in, and of which topic. A lost one costs reading only."""
        try:
            self._consumer.commit(offsets=_with_topics(positions), asynchronous=True)
        except KafkaException as error:
            raise BrokerTrouble(f"commits: {error}") from error

    def settle(self, positions: Mapping[Place, Position]) -> None:
        """Commit, and wait for the broker's word. Raises BrokerTrouble."""
        try:
            self._consumer.commit(offsets=_with_topics(positions), asynchronous=False)
        except KafkaException as error:
            raise BrokerTrouble(f"the last commits: {error}") from error

    def ask_whether_ours(self, place: Place) -> None:
        """Raises NotOurs where the group has no such member, or has given the partition to another.

        While the group is in the middle of a rebalance it cannot say; then it may be ours.
        """
        try:
            answer = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_TIMEOUT_S)
            described = answer[self._group].result()
        except KafkaException as error:
            raise BrokerTrouble(f"asking the group for {place}: {error}") from error
        if described.state is ConsumerGroupState.STABLE and place not in _held_by(self._member_id, described.members):
            raise NotOurs(f"{place}: the group has given it to another")

    def committed(self, place: Place) -> Position | None:
        """The group's offset and the topic that it was committed for; None where there is none, or none of ours."""
        [position] = self._ask_committed([place])
        return position_of(position)

    def committed_offsets(self, places: list[Place]) -> dict[Place, int]:
        found = {Place(position.topic, position.partition): position.offset for position in self._ask_committed(places)}
        return {place: max(0, found.get(place, 0)) for place in places}

    def bounds(self, place: Place) -> tuple[int, int]:
        """The log's first offset, and the one after its last record."""
        first = self._offsets([place], OffsetSpec.earliest())[place]
        return first, self._offsets([place], OffsetSpec.latest())[place]

    def ends(self) -> dict[Place, int]:
        """The offset after the last record of every partition of our topics."""
        metadata = self._metadata()
        places = [Place(topic, partition) for topic in self._topics for partition in metadata[topic]]
        return self._offsets(places, OffsetSpec.latest())

    def last_known_end(self, place: Place) -> int:
        """The end of one without asking: as of the last fetch, -1 where nothing was fetched yet."""
        watermarks = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return watermarks[1] if _answered(watermarks) else -1

    def topic_id(self, topic: str) -> UUID:
        try:
            described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_TIMEOUT_S)
            found = described[topic].result()
        except KafkaException as error:
            raise BrokerTrouble(f"the id of {topic}: {error}") from error
        return topic_id_of(found)

    def close(self) -> None:
        self._consumer.close()
        self._asker.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._member_id = consumer.memberid() or ""
        self.assigned.update(Place(partition.topic, partition.partition) for partition in partitions)
        consumer.incremental_assign([])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = {Place(partition.topic, partition.partition) for partition in partitions}
        self.assigned -= places
        consumer.incremental_unassign([TopicPartition(*place) for place in places & self.fetched])
        self.fetched -= places
        self._paused -= places

    def _offsets(self, places: list[Place], which: OffsetSpec) -> dict[Place, int]:
        """Asked through the admin client: on the consumer's connection the question waits behind a fetch."""
        asked = {TopicPartition(*place): which for place in places}
        try:
            answers = self._admin.list_offsets(asked, request_timeout=ANSWER_TIMEOUT_S)
            return {Place(where.topic, where.partition): answer.result().offset for where, answer in answers.items()}
        except KafkaException as error:
            raise BrokerTrouble(f"the offsets of {', '.join(map(str, places))}: {error}") from error

    def _ask_committed(self, places: list[Place]) -> list[TopicPartition]:
        """Asked by a consumer that consumes nothing: the admin client's way can crash the process while the coordinator moves."""
        try:
            with self._asking:
                found = self._asker.committed([TopicPartition(*place) for place in places], timeout=ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerTrouble(f"the committed offsets: {error}") from error
        if wrong := [position.error for position in found if position.error is not None]:
            raise BrokerTrouble(f"the committed offsets: {wrong[0]}")
        return found

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


def runs(messages: Sequence[Message]) -> Iterator[Fetched]:
    """Consumed messages as runs of one partition each, in order. Records of a fetch come together, so runs are long."""
    sound = map(is_, map(_ERROR, messages), repeat(None))
    keys = zip(map(_TOPIC, messages), map(_PARTITION, messages), sound, strict=False)
    for (topic, partition, is_sound), found in groupby(zip(keys, messages, strict=True), key=itemgetter(0)):
        run = [message for _, message in found]
        place = Place(topic or "", partition)
        if is_sound:
            yield Fetched(place, run)
        else:
            yield from (_eventful(place, message) for message in run)


def _eventful(place: Place, message: Message) -> Fetched:
    error = message.error()
    assert error is not None, "only messages that are no records come here"
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
        return Fetched(place, [], end=message.offset())
    return Fetched(place, [], error=error)


def _with_topics(positions: Mapping[Place, Position]) -> list[TopicPartition]:
    return [TopicPartition(*place, offset, metadata=str(topic)) for place, (offset, topic) in positions.items()]


def _held_by(member_id: str, members: Iterable[MemberDescription]) -> set[Place]:
    held = (member.assignment.topic_partitions for member in members if member.member_id == member_id)
    return {Place(partition.topic, partition.partition) for partitions in held for partition in partitions}


def _answered(watermarks: tuple[int, int] | None) -> bool:
    """The client gives None where the broker was not asked or did not answer, whatever its types say."""
    return watermarks is not None


def topic_id_of(described: Any) -> UUID:
    """Of a TopicDescription, whose id the client gives as two signed halves, and its types as nothing."""
    high, low = described.topic_id.get_most_significant_bits(), described.topic_id.get_least_significant_bits()
    return UUID(int=(high & _HALF) << 64 | (low & _HALF))


def position_of(position: TopicPartition) -> Position | None:
    """What a committed offset says, None where there is none, or none of the sink's."""
    if position.offset < 0 or not position.metadata:
        return None
    try:
        return Position(position.offset, UUID(position.metadata))
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
