"""The warehouse server's settings: where it keeps its data, where it listens, who may ask, and how much a query may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.environment import Environment

WRITER, READER = "tailrace", "reader"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query, and all of them together, may take. The defaults suit a machine of 24 GiB that also runs Kafka."""

    execution_seconds: int = 300
    query_memory_bytes: int = 4 << 30
    server_memory_bytes: int = 10 << 30
    running_queries: int = 32
    waiting_queries: int = 128
    body_bytes: int = 4 << 30
    sessions: int = 256
    grace_seconds: int = 10


@dataclass(frozen=True, slots=True)
class ServerConfig:
    directory: Path
    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    """Password by user."""
    limits: Limits = Limits()


def passwords_from_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Raises schemas.errors.ConfigurationError that names each variable that is missing."""
    environment = Environment(variables)
    passwords = {
        WRITER: environment.text("TAILRACE_WAREHOUSE_SERVER_WRITER_PASSWORD"),
        READER: environment.text("TAILRACE_WAREHOUSE_SERVER_READER_PASSWORD"),
    }
    environment.refuse_problems()
    return passwords
