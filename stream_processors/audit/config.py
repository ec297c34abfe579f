"""The auditor's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.environment import Environment
from schemas.topics import DEFAULT_PREFIX


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """Where the parts are, which group is the sink's, and how long an event may be on its way.

    `topics` are names without prefix; none means all. `patience_s` should be longer than the emitters' message.timeout.ms and
    checkpoint interval together: a producer that is not heard of for so long is silent, a number in use for so long is due.
    """

    kafka_bootstrap: str
    warehouse_url: str = field(repr=False)
    topic_prefix: str
    group: str
    topics: tuple[str, ...]
    patience_s: int
    metrics_port: int
    kafka_options: Mapping[str, str]
    warehouse_options: Mapping[str, str]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str], topics: tuple[str, ...] = ()) -> "AuditConfig":
        """Raises ConfigurationError that names every wrong setting."""
        read = Environment(variables)
        prefix = read.text("TAILRACE_TOPIC_PREFIX", DEFAULT_PREFIX)
        config = cls(
            kafka_bootstrap=read.text("TAILRACE_KAFKA_BOOTSTRAP"),
            warehouse_url=read.url("TAILRACE_WAREHOUSE_READ_URL", variables.get("TAILRACE_WAREHOUSE_URL", "").strip() or None),
            topic_prefix=prefix,
            group=read.text("TAILRACE_SINK_GROUP", f"{prefix}warehouse"),
            topics=topics,
            patience_s=read.integer("TAILRACE_AUDIT_PATIENCE_S", 300, minimum=1, maximum=86_400),
            metrics_port=read.integer("TAILRACE_METRICS_PORT", 0, minimum=0, maximum=65_535),
            kafka_options=read.options("TAILRACE_KAFKA_OPTIONS"),
            warehouse_options=read.options("TAILRACE_WAREHOUSE_OPTIONS"),
        )
        read.refuse_problems()
        return config
