"""Settings of the replay's commands: those of the sink, as far as they say where the parts are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.environment import Environment
from schemas.topics import DEFAULT_PREFIX


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """Where the parts are. URLs may hold passwords: never print them."""

    kafka_bootstrap: str
    registry_url: str = field(repr=False)
    warehouse_url: str = field(repr=False)
    topic_prefix: str
    group: str
    """The live sink's: replays ask it how far it is behind."""
    kafka_options: Mapping[str, str]
    warehouse_options: Mapping[str, str]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "ReplayConfig":
        """Raises ConfigurationError that names every wrong setting."""
        read = Environment(variables)
        prefix = read.text("TAILRACE_TOPIC_PREFIX", DEFAULT_PREFIX)
        config = cls(
            kafka_bootstrap=read.text("TAILRACE_KAFKA_BOOTSTRAP"),
            registry_url=read.url("TAILRACE_REGISTRY_URL"),
            warehouse_url=read.url("TAILRACE_WAREHOUSE_URL"),
            topic_prefix=prefix,
            group=read.text("TAILRACE_SINK_GROUP", f"{prefix}warehouse"),
            kafka_options=read.options("TAILRACE_KAFKA_OPTIONS"),
            warehouse_options=read.options("TAILRACE_WAREHOUSE_OPTIONS"),
        )
        read.refuse_problems()
        return config
