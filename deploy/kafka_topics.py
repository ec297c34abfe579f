"""The topics of an installation on its Kafka cluster.

Topics that exist are kept as they are, with one exception: the time of a record is the broker's (LogAppendTime), because one
producer's clock two hours ahead would fail its whole batch.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from deploy.outcome import Outcome, Problem
from deploy.settings import Installation
from schemas.errors import PartUnreachable
from schemas.topics import TIMESTAMP_TYPE, TOPICS, Topic, topic_name

KAFKA_TIMEOUT_S = 10
CLUSTER_DEFAULT_REPLICATION = -1


def provision_topics(installation: Installation, timeout_s: float = KAFKA_TIMEOUT_S) -> Outcome:
    """Make the topics that are missing. Raises PartUnreachable."""
    try:
        cluster = _Cluster(installation, timeout_s)
        partitions = cluster.partitions()
        missing = [topic for topic in cluster.topics if topic.name not in partitions]
        made = cluster.create(missing)
        kept = [topic for topic in cluster.topics if topic.name in partitions]
        return Outcome("topics", (*made, *cluster.enforce_append_time(kept)), tuple(_differences(kept, partitions)))
    except KafkaException as error:
        raise _unreachable(installation, error) from error


def examine_topics(installation: Installation, timeout_s: float = KAFKA_TIMEOUT_S) -> list[Problem]:
    """What is wrong with the topics. Raises PartUnreachable."""
    try:
        cluster = _Cluster(installation, timeout_s)
        return list(_problems(cluster, cluster.partitions(), installation.kafka_bootstrap))
    except KafkaException as error:
        raise _unreachable(installation, error) from error


class _Cluster:
    """A Kafka cluster's topics, named in full."""

    def __init__(self, installation: Installation, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._admin = AdminClient(
            {
                "bootstrap.servers": installation.kafka_bootstrap,
                "socket.connection.setup.timeout.ms": int(timeout_s * 1000),
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,  # what goes wrong is raised
                **installation.kafka_options,
            }
        )
        self.topics = [
            Topic(topic_name(installation.topic_prefix, topic), topic.record, topic.partitions, topic.config) for topic in TOPICS
        ]

    def partitions(self) -> dict[str, int]:
        """Partition counts of the installation's topics that exist."""
        found = self._admin.list_topics(timeout=self._timeout_s).topics
        return {topic.name: len(found[topic.name].partitions) for topic in self.topics if topic.name in found}

    def create(self, topics: Sequence[Topic]) -> list[str]:
        """Create, and wait until the brokers know them. A topic that appeared in the meantime is kept."""
        if not topics:
            return []
        wanted = [
            NewTopic(topic.name, topic.partitions, CLUSTER_DEFAULT_REPLICATION, config=dict(topic.config)) for topic in topics
        ]
        futures = self._admin.create_topics(wanted, operation_timeout=self._timeout_s)
        created = [name for name, future in futures.items() if _succeeded(future, self._timeout_s)]
        self._await(lambda: len(self.partitions()) == len(self.topics), KafkaError.UNKNOWN_TOPIC_OR_PART)
        return created

    def timestamp_types(self, topics: Sequence[Topic]) -> dict[str, str]:
        if not topics:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
        futures = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        return {resource.name: future.result(self._timeout_s)[TIMESTAMP_TYPE].value for resource, future in futures.items()}

    def enforce_append_time(self, topics: Sequence[Topic]) -> list[str]:
        """Set LogAppendTime where another type is, and wait until the brokers keep it; says which topics were changed."""
        types = self.timestamp_types(topics)
        wrong = [topic for topic in topics if types[topic.name] != topic.config[TIMESTAMP_TYPE]]
        if not wrong:
            return []
        changes = [_timestamp_change(topic) for topic in wrong]
        for future in self._admin.incremental_alter_configs(changes, request_timeout=self._timeout_s).values():
            future.result(self._timeout_s)
        wanted = {topic.name: topic.config[TIMESTAMP_TYPE] for topic in wrong}
        self._await(lambda: self.timestamp_types(wrong) == wanted, KafkaError.REQUEST_TIMED_OUT)
        return [f"{topic.name}: {TIMESTAMP_TYPE} {types[topic.name]} → {topic.config[TIMESTAMP_TYPE]}" for topic in wrong]

    def _await(self, holds: Callable[[], bool], otherwise: int) -> None:
        """A controller answers before every broker has heard of the change."""
        deadline = time.monotonic() + self._timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(otherwise))
            time.sleep(0.02)


def _timestamp_change(topic: Topic) -> ConfigResource:
    entry = ConfigEntry(
        TIMESTAMP_TYPE,
        topic.config[TIMESTAMP_TYPE],
        source=ConfigSource.DYNAMIC_TOPIC_CONFIG,
        incremental_operation=AlterConfigOpType.SET,
    )
    return ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=[entry])


def _succeeded(future: Future[None], timeout_s: float) -> bool:
    try:
        future.result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return False
    return True


def _differences(topics: Sequence[Topic], partitions: Mapping[str, int]) -> Iterator[str]:
    for topic in topics:
        if (found := partitions[topic.name]) != topic.partitions:
            yield f"{topic.name} has {found} partitions, {topic.partitions} are usual: kept"


def _problems(cluster: _Cluster, partitions: Mapping[str, int], where: str) -> Iterator[Problem]:
    present = [topic for topic in cluster.topics if topic.name in partitions]
    types = cluster.timestamp_types(present)
    for topic in cluster.topics:
        if topic.name not in partitions:
            yield Problem(f"the topic {topic.name} is missing", where, "run `tailrace up`: it makes what is missing")
        elif types[topic.name] != topic.config[TIMESTAMP_TYPE]:
            what = f"the topic {topic.name} keeps {types[topic.name]}, not {topic.config[TIMESTAMP_TYPE]}"
            yield Problem(what, where, "run `tailrace up`: it sets the type; records that are there keep their times")


def _unreachable(installation: Installation, error: KafkaException) -> PartUnreachable:
    reason = error.args[0].str() if error.args and isinstance(error.args[0], KafkaError) else str(error)
    remedy = f"it answers {reason!r}; check TAILRACE_KAFKA_BOOTSTRAP and that the brokers run (`tailrace status` for a local one)"
    return PartUnreachable("Kafka", installation.kafka_bootstrap, remedy)
