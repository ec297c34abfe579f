"""Settings of the producers, from TAILRACE_* variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from schemas.environment import Environment
from schemas.topics import DEFAULT_PREFIX


@dataclass(frozen=True, slots=True)
class EmitterLimits:
    """`queue_events_max` bounds what waits for the courier: at a thousand events a second, twenty seconds of a registry away."""

    queue_events_max: int = 20_000
    checkpoint_interval_s: float = 5.0
    close_at_exit_s: float = 5.0


class Durability(StrEnum):
    """What stands between an event that was emitted and its loss.

    In each mode an event is in memory first, for as long as it takes to write or send it; a full queue loses what comes then,
    counted. Beside that:

    - killed (kill -9): `memory` and `spool_on_error` lose what the broker has not acknowledged and the disk does not have. With
      the broker up that is some milliseconds' worth; while it is away, with `memory` all that waits, with `spool_on_error` what
      was on its way when it went (at most `message.timeout.ms`, 5 s) and then milliseconds again. `write_ahead` loses what it
      has not written yet: milliseconds, whatever the broker does. In numbers, which tests hold on slow machines too: with
      `write_ahead` no event is lost that was emitted more than 1 s before, with `spool_on_error` more than 6 s. Of what the last
      checkpoint told, only what it had `queued` can be missing; how much came after it nobody knows, so the auditor calls that
      producer unknown. The checkpoint is as old as its interval, and those 6 s at most: it is not written ahead itself.
    - the host crashes: beside these, what was written within the last `fsync_ms`, and what an fsync was still busy with.
    - the registry lacks a topic's schema: with a spool its events wait on disk, with `memory` 10,000 of them, or 32 MB. Other
      topics do not notice.
    - a topic takes nothing (it is not there, or may not be written to): with a spool its events wait on disk, 10,000 of them or
      32 MB before others behind them wait, too; with `memory` they are lost. Other topics do not notice.
    - the client breaks down with a fatal error: nothing is lost, another one is made.
    - the broker is away: `memory` keeps what fits into its queues for `message.timeout.ms` (60 s); the others lose nothing until
      the spool passes its cap on size or age, then the oldest.
    - the disk is full, broken or hangs: as `memory`, until it is well again.
    - a close in time (SIGTERM to a host that closes its emitter): with a spool nothing is lost, however much is in flight. Half
      of the time is for sending it, half for the disk.
    """

    MEMORY = "memory"
    SPOOL_ON_ERROR = "spool_on_error"
    WRITE_AHEAD = "write_ahead"


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """`bytes_max` and `age_s_max` hold for the host: for the directories of all its producers together.

    Bytes are looked up once a second, so several producers may pass the cap by what they write in one. `drain_events_s` is the
    rate, an emitter, at which what is on disk is sent once the broker is back; live events go first.
    """

    bytes_max: int = 1 << 30
    age_s_max: int = 86_400
    fsync_ms: int = 200
    drain_events_s: int = 20_000


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    directory: Path
    durability: Durability
    limits: SpoolLimits = SpoolLimits()


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """`spool` is None where durability is `memory`."""

    kafka_bootstrap: str
    registry_url: str
    topic_prefix: str = DEFAULT_PREFIX
    kafka_options: Mapping[str, str] = field(default_factory=dict)
    limits: EmitterLimits = EmitterLimits()
    spool: SpoolSettings | None = None

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
            spool=_spool(environment),
        )
        environment.refuse_problems()
        return settings


def _spool(environment: Environment) -> SpoolSettings | None:
    """With a directory events are spooled on errors, unless it is said otherwise; without one they stay in memory."""
    directory = environment.text("TAILRACE_SPOOL_DIR", "")
    durability = _durability(environment, Durability.SPOOL_ON_ERROR if directory else Durability.MEMORY)
    limits = SpoolLimits(
        bytes_max=environment.integer("TAILRACE_SPOOL_BYTES_MAX", 1 << 30, minimum=1 << 20, maximum=1 << 50),
        age_s_max=environment.integer("TAILRACE_SPOOL_AGE_S_MAX", 86_400, minimum=1, maximum=366 * 86_400),
        fsync_ms=environment.integer("TAILRACE_SPOOL_FSYNC_MS", 200, minimum=1, maximum=60_000),
        drain_events_s=environment.integer("TAILRACE_SPOOL_DRAIN_EVENTS_S", 20_000, minimum=1, maximum=10_000_000),
    )
    if durability is Durability.MEMORY:
        return None
    if not directory:
        environment.problem(f"TAILRACE_EMITTER_DURABILITY={durability} needs TAILRACE_SPOOL_DIR")
    return SpoolSettings(Path(directory), durability, limits)


def _durability(environment: Environment, default: Durability) -> Durability:
    said = environment.text("TAILRACE_EMITTER_DURABILITY", default)
    if said not in set(Durability):
        environment.problem(f"TAILRACE_EMITTER_DURABILITY={said!r} is none of {', '.join(Durability)}")
        return default
    return Durability(said)
