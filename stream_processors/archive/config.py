"""Settings of the archive: where it is, and how large its files grow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.environment import Environment
from schemas.topics import DEFAULT_PREFIX, TOPICS, topic_name

ARCHIVE_URL = "TAILRACE_ARCHIVE_URL"


@dataclass(frozen=True, slots=True)
class ArchiveLocation:
    """The URL may hold a password: never print it."""

    url: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_environment(cls, variables: Mapping[str, str], url: str | None = None) -> "ArchiveLocation":
        """`url` of None: the one in the settings. Raises ConfigurationError."""
        read = Environment(variables)
        location = cls(url or read.text(ARCHIVE_URL), read.options("TAILRACE_ARCHIVE_OPTIONS"))
        read.refuse_problems()
        return location


@dataclass(frozen=True, slots=True)
class FileLimits:
    """A file is closed at so many records, bytes (as they were in Kafka), or seconds after its first record came."""

    rows: int
    bytes: int
    age_s: float
    bytes_in_hand: int
    """Over all partitions: beyond it the largest is closed early."""


@dataclass(frozen=True, slots=True)
class ArchiverConfig:
    location: ArchiveLocation
    kafka_bootstrap: str
    registry_url: str = field(repr=False)
    topics: Mapping[str, str]
    """The record of each, by the topic's whole name."""
    limits: FileLimits
    metrics_port: int
    """0: no metrics endpoint."""
    kafka_options: Mapping[str, str]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str], url: str | None, topics: tuple[str, ...]) -> "ArchiverConfig":
        """`topics` by their names without prefix; none: all that hold records. Raises ConfigurationError."""
        read = Environment(variables)
        prefix = read.text("TAILRACE_TOPIC_PREFIX", DEFAULT_PREFIX)
        config = cls(
            location=ArchiveLocation.from_environment(variables, url),
            kafka_bootstrap=read.text("TAILRACE_KAFKA_BOOTSTRAP"),
            registry_url=read.url("TAILRACE_REGISTRY_URL"),
            topics={
                topic_name(prefix, each): each.record for each in TOPICS if each.record and each.name in (topics or ARCHIVED)
            },
            limits=FileLimits(
                rows=read.integer("TAILRACE_ARCHIVE_ROWS_MAX", 250_000, minimum=1, maximum=1_000_000),
                bytes=read.integer("TAILRACE_ARCHIVE_BYTES_MAX", 64 << 20, minimum=1, maximum=1 << 30),
                age_s=read.integer("TAILRACE_ARCHIVE_AGE_S_MAX", 300, minimum=1, maximum=86_400),
                bytes_in_hand=read.integer("TAILRACE_ARCHIVE_BYTES_IN_HAND_MAX", 256 << 20, minimum=1 << 20, maximum=1 << 36),
            ),
            metrics_port=read.integer("TAILRACE_METRICS_PORT", 0, minimum=0, maximum=65_535),
            kafka_options=read.options("TAILRACE_KAFKA_OPTIONS"),
        )
        read.refuse_problems()
        return config


ARCHIVED = tuple(topic.name for topic in TOPICS if topic.record)
"""The topics of records, without prefix."""
