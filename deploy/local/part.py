"""What the stack needs to know of a part: how it is started, where it listens, and when it is well."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """`answers` asks the part itself, and returns within HEALTH_TIMEOUT_S. `environment` is added to the process's own."""

    name: str
    command: tuple[str, ...]
    directory: Path
    port: int
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)

    def log(self, home: Path) -> Path:
        return home / "logs" / f"{self.name}.log"
