"""Settings of the producers, from TAILRACE_* variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.environment import Environment
from schemas.topics import DEFAULT_PREFIX


@dataclass(frozen=True, slots=True)
class EmitterLimits:
    """`queue_events_max` bounds what waits for the courier: at a thousand events a second, twenty seconds of a registry away."""

    queue_events_max: int = 20_000
    checkpoint_interval_s: float = 5.0
    close_at_exit_s: float = 5.0


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    kafka_bootstrap: str
    registry_url: str
    topic_prefix: str = DEFAULT_PREFIX
    kafka_options: Mapping[str, str] = field(default_factory=dict)
    limits: EmitterLimits = EmitterLimits()

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "ProducerSettings":
        """Raises ConfigurationError that names every wrong variable."""
        environment = Environment(variables)
        limits = EmitterLimits(
            queue_events_max=environment.integer("TAILRACE_EMITTER_QUEUE_EVENTS_MAX", 20_000, minimum=1, maximum=10_000_000),
            checkpoint_interval_s=environment.integer(
                "TAILRACE_EMITTER_CHECKPOINT_INTERVAL_MS", 5_000, minimum=10, maximum=600_000
            )
            / 1_000,
            close_at_exit_s=environment.integer("TAILRACE_EMITTER_CLOSE_AT_EXIT_MS", 5_000, minimum=0, maximum=600_000) / 1_000,
        )
        settings = cls(
            kafka_bootstrap=environment.text("TAILRACE_KAFKA_BOOTSTRAP"),
            registry_url=environment.url("TAILRACE_REGISTRY_URL"),
            topic_prefix=environment.text("TAILRACE_TOPIC_PREFIX", DEFAULT_PREFIX),
            kafka_options=environment.options("TAILRACE_KAFKA_OPTIONS"),
            limits=limits,
        )
        environment.refuse_problems()
        return settings
