"""The archiver's edge to Kafka: partitions read from offsets of its choosing, in no group, and nothing is committed.

Raises PartUnreachable where the broker does not answer.
"""

from collections.abc import Mapping, Sequence
from typing import cast
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas.errors import PartUnreachable
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.warehouse.kafka_source import FETCH_RECORDS_MAX, ClientOptions, Fetched, runs
from stream_processors.warehouse.records import Message, Place

NOBODYS_GROUP = "tailrace-archive"
"""The client wants a name; nobody joins it, and nothing is committed for it."""
_EXPIRED = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001 - its public name
_PASSING = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE})  # noqa: SLF001


class ArchivedLog:
    """For one thread; close it."""

    def __init__(self, bootstrap: str, options: Mapping[str, str]) -> None:
        client: ClientOptions = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        reading: ClientOptions = {
            "group.id": NOBODYS_GROUP,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": 8 << 20,
        }
        self._bootstrap = bootstrap
        self.metadata = KafkaLog(bootstrap, NOBODYS_GROUP, options)
        self._consumer = Consumer({**client, **reading})

    def topic_id(self, topic: str) -> UUID | None:
        """None where there is no such topic any more."""
        found = self.metadata.topics([topic]).get(topic)
        return None if found is None else found.topic_id

    def start(self, positions: Mapping[Place, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in positions.items()])

    def stop(self, place: Place) -> None:
        self._consumer.incremental_unassign([TopicPartition(*place)])

    def consume(self, timeout_s: float) -> list[Fetched]:
        """Records, and where partitions end."""
        found = list(runs(cast("Sequence[Message]", self._consumer.consume(FETCH_RECORDS_MAX, timeout_s))))
        for place, _, _, error in found:
            if error is not None and error.code() not in _PASSING:
                what = (
                    "it let go of records while they were read; the next try notes them as lost"
                    if error.code() in _EXPIRED
                    else error.str()
                )
                raise PartUnreachable("Kafka", f"{self._bootstrap}, {place}", what)
        return [each for each in found if each.error is None]

    def close(self) -> None:
        self._consumer.close()
        self.metadata.close()
