"""Running a program of a test's own: for what a test cannot do to its own process."""

import os
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

LIMIT_S = 60
NOTHING: Mapping[str, str] = MappingProxyType({})


def started(program: str, *arguments: str, variables: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
    """Any warning in it is an error. Its output can be read as it comes."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables, "PYTHONPATH": path},
    )


def told_by(program: str, *arguments: str) -> str:
    """What it has printed, once it has ended by itself, and well."""
    process = started(program, *arguments)
    try:
        told, complaints = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, complaints
    return told.strip()
