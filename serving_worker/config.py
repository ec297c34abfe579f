"""Settings of the worker, from TAILRACE_* variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from schemas.environment import Environment
from schemas.experiment_history import SNAPSHOT_AGE_S_MAX
from serving_worker.isolation.config import PolicySettings
from serving_worker.rankers.plugins import GROUP

DEFAULT_PORT = 8080
DEFAULT_POLICY = "popularity"
SEED = "TAILRACE_SERVING_SEED"
RELOAD_MS_MAX = 1_000
"""A stop counts in every worker within two seconds: the other one is for the topic, the follower and the disk."""


@dataclass(frozen=True, slots=True)
class ExperimentSettings:
    """Experiments come from a file that somebody keeps, or from the topic by way of the host's snapshot, which decides nothing
    any more when it is `age_s_max` old. Neither stands for none. The files are looked at every `reload_s`.
    """

    file: Path | None = None
    snapshot: Path | None = None
    kill_file: Path | None = None
    age_s_max: int = SNAPSHOT_AGE_S_MAX
    reload_s: float = 0.5

    @classmethod
    def read(cls, read: Environment) -> "ExperimentSettings":
        settings = cls(
            file=read.file("TAILRACE_EXPERIMENTS_FILE"),
            snapshot=read.file("TAILRACE_EXPERIMENTS_SNAPSHOT"),
            kill_file=read.file("TAILRACE_EXPERIMENTS_KILL_FILE"),
            age_s_max=read.integer("TAILRACE_EXPERIMENTS_AGE_S_MAX", SNAPSHOT_AGE_S_MAX, minimum=1, maximum=SNAPSHOT_AGE_S_MAX),
            reload_s=read.integer("TAILRACE_EXPERIMENTS_RELOAD_MS", 500, minimum=10, maximum=RELOAD_MS_MAX) / 1_000,
        )
        if settings.file and settings.snapshot:
            read.problem("TAILRACE_EXPERIMENTS_FILE and TAILRACE_EXPERIMENTS_SNAPSHOT are both set: experiments have one source")
        return settings

    def killing(self) -> Path | None:
        """What stops experiments on this host: beside their source unless it is named."""
        source = self.snapshot or self.file
        return self.kill_file or (source and source.with_name(f"{source.name}.kill"))


def default_policy(read: Environment) -> str:
    """What answers where no arm says otherwise: for workers, for who embeds them, and for who explains them."""
    return read.text("TAILRACE_DEFAULT_POLICY", DEFAULT_POLICY)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`seed` None stands for one of the process's own choice. A request's context is logged under `context_keys` only.

    A connection is closed where a request's head takes longer than `head_timeout_s`, or where none comes on a new one; a body
    that takes longer than `body_timeout_s` is refused. At SIGTERM a worker is unready and answers for `drain_s` more, while
    whoever balances the load hears of it; `shutdown_s` is for the requests that are then under way, and again for the events.
    All together is below the 30 s after which Kubernetes kills.
    """

    catalogue_file: Path
    experiments: ExperimentSettings = ExperimentSettings()
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = 1
    api_keys_file: Path | None = None
    access_log: bool = False
    default_policy: str = DEFAULT_POLICY
    policies: PolicySettings = field(default_factory=PolicySettings)
    context_keys: frozenset[str] = frozenset()
    seed: int | None = None
    k_max: int = 100
    body_bytes_max: int = 262_144
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    drain_s: float = 5.0
    shutdown_s: float = 10.0

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "WorkerSettings":
        """Raises ConfigurationError that names every wrong variable."""
        read = Environment(variables)
        seed = read.text(SEED, "")
        settings = cls(
            catalogue_file=Path(read.text("TAILRACE_CATALOGUE_FILE")),
            experiments=ExperimentSettings.read(read),
            host=read.text("TAILRACE_HTTP_HOST", "127.0.0.1"),
            workers=read.integer("TAILRACE_HTTP_WORKERS", 1, minimum=1, maximum=256),
            api_keys_file=read.file("TAILRACE_API_KEYS_FILE"),
            access_log=read.flag("TAILRACE_ACCESS_LOG", default=False),
            port=read.integer("TAILRACE_HTTP_PORT", DEFAULT_PORT, minimum=0, maximum=65_535),
            default_policy=default_policy(read),
            policies=PolicySettings.read(read, entry_points(group=GROUP)),
            context_keys=frozenset(key.strip() for key in read.text("TAILRACE_CONTEXT_KEYS", "").split(",") if key.strip()),
            seed=read.integer(SEED, 0, minimum=0, maximum=2**63 - 1) if seed else None,
            k_max=read.integer("TAILRACE_K_MAX", 100, minimum=1, maximum=10_000),
            body_bytes_max=read.integer("TAILRACE_HTTP_BODY_BYTES_MAX", 262_144, minimum=256, maximum=64_000_000),
            head_timeout_s=read.integer("TAILRACE_HTTP_HEAD_TIMEOUT_MS", 10_000, minimum=10, maximum=600_000) / 1_000,
            body_timeout_s=read.integer("TAILRACE_HTTP_BODY_TIMEOUT_MS", 10_000, minimum=10, maximum=600_000) / 1_000,
            drain_s=read.integer("TAILRACE_DRAIN_MS", 5_000, minimum=0, maximum=600_000) / 1_000,
            shutdown_s=read.integer("TAILRACE_SHUTDOWN_MS", 10_000, minimum=0, maximum=600_000) / 1_000,
        )
        read.refuse_problems()
        return settings
