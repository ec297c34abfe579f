"""The sink's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.environment import Environment
from schemas.topics import DEFAULT_PREFIX
from stream_processors.warehouse.batch import BatchLimits


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """Where the parts are, and how large a batch may grow."""

    kafka_bootstrap: str
    registry_url: str
    warehouse_url: str = field(repr=False)
    topic_prefix: str
    group: str
    limits: BatchLimits
    crew: int
    """Threads that own partitions and insert: so many inserts may be in flight."""
    dead_letters_share_max: float
    metrics_port: int
    kafka_options: Mapping[str, str]
    warehouse_options: Mapping[str, str]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "SinkConfig":
        """Raises ConfigurationError that names every wrong setting."""
        read = Environment(variables)
        prefix = read.text("TAILRACE_TOPIC_PREFIX", DEFAULT_PREFIX)
        config = cls(
            kafka_bootstrap=read.text("TAILRACE_KAFKA_BOOTSTRAP"),
            registry_url=read.url("TAILRACE_REGISTRY_URL"),
            warehouse_url=read.url("TAILRACE_WAREHOUSE_URL"),
            topic_prefix=prefix,
            group=read.text("TAILRACE_SINK_GROUP", f"{prefix}warehouse"),
            limits=BatchLimits(
                rows=read.integer("TAILRACE_SINK_BATCH_ROWS_MAX", 100_000, minimum=1, maximum=1_000_000),
                bytes=read.integer("TAILRACE_SINK_BATCH_BYTES_MAX", 32 << 20, minimum=1, maximum=1 << 30),
                age_s_min=read.integer("TAILRACE_SINK_BATCH_AGE_MS_MIN", 50, minimum=0, maximum=60_000) / 1000,
                age_s_max=read.integer("TAILRACE_SINK_BATCH_AGE_MS_MAX", 300, minimum=0, maximum=60_000) / 1000,
                bytes_in_hand=read.integer("TAILRACE_SINK_BYTES_IN_HAND_MAX", 64 << 20, minimum=1 << 20, maximum=1 << 36),
            ),
            crew=read.integer("TAILRACE_SINK_INSERTS_MAX", 3, minimum=1, maximum=64),
            dead_letters_share_max=read.integer("TAILRACE_SINK_DEAD_LETTERS_PERCENT_MAX", 20, minimum=0, maximum=100) / 100,
            metrics_port=read.integer("TAILRACE_METRICS_PORT", 0, minimum=0, maximum=65_535),
            kafka_options=read.options("TAILRACE_KAFKA_OPTIONS"),
            warehouse_options=read.options("TAILRACE_WAREHOUSE_OPTIONS"),
        )
        read.refuse_problems()
        return config
