"""The settings of analysis: where the warehouse is read, and where the reviewed metric definitions are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.environment import Environment

SHIPPED_METRICS_DIRECTORY = Path(__file__).parent / "metrics"


@dataclass(frozen=True, slots=True)
class AnalyticsConfig:
    """`metrics_directories` are read in order; a metric's name may stand in one of them only."""

    warehouse_url: str
    warehouse_options: Mapping[str, str]
    query_timeout_s: int
    metrics_directories: tuple[Path, ...]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "AnalyticsConfig":
        """Raises ConfigurationError that names every wrong setting."""
        environment = Environment(variables)
        url = environment.url("TAILRACE_WAREHOUSE_READ_URL", variables.get("TAILRACE_WAREHOUSE_URL", "").strip() or None)
        config = cls(
            warehouse_url=url,
            warehouse_options=environment.options("TAILRACE_WAREHOUSE_OPTIONS"),
            query_timeout_s=environment.integer("TAILRACE_QUERY_TIMEOUT_S", 300, minimum=1, maximum=86_400),
            metrics_directories=(SHIPPED_METRICS_DIRECTORY, *_own_directory(environment)),
        )
        environment.refuse_problems()
        return config


def _own_directory(environment: Environment) -> tuple[Path, ...]:
    named = environment.text("TAILRACE_METRICS_DIRECTORY", "")
    if not named:
        return ()
    directory = Path(named).expanduser()
    if not directory.is_dir():
        environment.problem(f"TAILRACE_METRICS_DIRECTORY={named!r} is not a directory")
    return (directory,)
