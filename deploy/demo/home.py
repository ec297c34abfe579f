"""The demo's own home: a stack apart from the one in TAILRACE_HOME, empty at the start of every run.

So a run says the same as the one before, and touches nothing of anybody's. What a run leaves there stays until the next one.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError

MARK = ".tailrace-demo"
"""Stands in a home that a demo has made, and that the next one may empty."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files of a home that the demo writes and its commands read."""

    experiments: str = "experiments.json"
    catalogue: str = "catalogue.json"


INPUTS = Inputs()

_KEPT = frozenset({"TAILRACE_CACHE"})


def environment_of(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` for a stack in `home`: without the TAILRACE_* settings, which name another installation, but for the cache."""
    foreign = {name for name in variables if name.startswith("TAILRACE_")} - _KEPT
    return {**{name: value for name, value in variables.items() if name not in foreign}, "TAILRACE_HOME": str(home)}


def refuse_foreign(home: Path) -> None:
    """Raises ConfigurationError where `home` holds something that no demo has put there."""
    if home.exists() and not home.is_dir():
        raise ConfigurationError((f"--home {home}: it is no directory",))
    if home.exists() and any(home.iterdir()) and not (home / MARK).is_file():
        raise ConfigurationError((f"--home {home}: it is not empty and no demo made it; name a directory that may be emptied",))


def empty(home: Path) -> None:
    """Make `home`, without anything in it but MARK. Its stack must be down. Raises ConfigurationError."""
    refuse_foreign(home)
    try:
        if home.exists():
            shutil.rmtree(home)
        home.mkdir(parents=True)
        (home / MARK).touch()
    except OSError as error:
        raise ConfigurationError((f"--home {home}: cannot be emptied: {error.strerror}",)) from error
