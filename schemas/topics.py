"""The topics as data. Names here carry no prefix; `topic_name` adds the installation's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

DEFAULT_PREFIX = "tailrace."
SHARED_PARTITIONS = 4
"""Recommendations, interactions and shadow rankings have the same count and key, so that they can be joined."""

_DAY_MS = 24 * 3600 * 1000
TIMESTAMP_TYPE = "message.timestamp.type"
LOG_APPEND_TIME = "LogAppendTime"
"""Every topic's TIMESTAMP_TYPE: coordinates carry Kafka's clock, not the producers'."""

_APPEND_TIME = MappingProxyType({TIMESTAMP_TYPE: LOG_APPEND_TIME})


@dataclass(frozen=True, slots=True)
class Topic:
    """`record` is the Avro record's name, None where the topic holds other bytes."""

    name: str
    record: str | None
    partitions: int
    config: Mapping[str, str] = field(default_factory=lambda: _APPEND_TIME)


def _topic(name: str, record: str | None, partitions: int, **config: str) -> Topic:
    named = {key.replace("_", "."): value for key, value in config.items()}
    return Topic(name, record, partitions, MappingProxyType({**_APPEND_TIME, **named}))


RECOMMENDATIONS = _topic("recommendations", "RecommendationServed", SHARED_PARTITIONS, retention_ms=str(7 * _DAY_MS))
INTERACTIONS = _topic("interactions", "Interaction", SHARED_PARTITIONS, retention_ms=str(7 * _DAY_MS))
SHADOW_RANKINGS = _topic("shadow-rankings", "ShadowRanking", SHARED_PARTITIONS, retention_ms=str(7 * _DAY_MS))
EXPERIMENTS = _topic("experiments", "ExperimentDefinition", 1, cleanup_policy="compact")
PRODUCER_CHECKPOINTS = _topic("producer-checkpoints", "ProducerCheckpoint", 1, retention_ms=str(30 * _DAY_MS))
ALERTS = _topic("alerts", "Alert", 1, retention_ms=str(30 * _DAY_MS))
DEAD_LETTERS = _topic("dead-letters", None, 1, retention_ms=str(30 * _DAY_MS))

TOPICS = (RECOMMENDATIONS, INTERACTIONS, SHADOW_RANKINGS, EXPERIMENTS, PRODUCER_CHECKPOINTS, ALERTS, DEAD_LETTERS)


def topic_name(prefix: str, topic: Topic) -> str:
    return prefix + topic.name


def subject(prefix: str, topic: Topic) -> str:
    """The registry's subject of a topic's values (TopicNameStrategy)."""
    return f"{topic_name(prefix, topic)}-value"
