"""`tailrace serve`, or serving alone, as a process of its own, for tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TAILRACE = (sys.executable, "-m", "deploy.cli")
SERVING_ALONE = (sys.executable, "-m", "serving_worker")
NOWHERE = {"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"}

Serve = Callable[..., subprocess.Popen[str]]


@contextmanager
def serving(directory: Path) -> Iterator[Serve]:
    """Starts workers before a broker and a registry that are not there; ends them."""
    catalogue = directory / "catalogue.json"
    catalogue.write_text(json.dumps({"surfaces": {"home": {"items": [{"item_id": "a"}]}}}), encoding="utf-8")
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, program: Sequence[str] = (*TAILRACE, "serve"), **variables: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
        named = {"TAILRACE_HOME": str(directory), "TAILRACE_CATALOGUE_FILE": str(catalogue)}
        named |= {"TAILRACE_SHUTDOWN_MS": "300", "TAILRACE_DRAIN_MS": "0"}
        process = subprocess.Popen(
            [*program, *arguments],
            env={**environment, **NOWHERE, **named, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().removeprefix("serving on ").strip()
