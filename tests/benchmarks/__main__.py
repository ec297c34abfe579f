"""`make bench`: the sink beside its peers, what exactly once costs, latency, poison, an outage, and the codec.

Prints a table and the targets for each part, and writes docs/benchmarks. Exit code 0 where every target is met, 1 where one
is not.
"""

import argparse
import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deploy.local.artifacts import locked_artifacts
from tests.benchmarks.ground import Ground, ground
from tests.benchmarks.part import Asked
from tests.benchmarks.parts import PARTS
from tests.benchmarks.presentation import as_text
from tests.benchmarks.report import content, write

DOCS = Path("docs/benchmarks")


def main() -> int:
    arguments = _arguments()
    found: dict[str, Any] = {}
    with ground(_say) as stands:
        met = [_run(stands, arguments, name, found) for name in arguments.parts or PARTS]
    return 0 if all(met) else 1


def _run(stands: Ground, arguments: argparse.Namespace, name: str, found: dict[str, Any]) -> bool:
    """Whether the part meets its targets."""
    machine = _machine()
    found[name] = PARTS[name].measure(stands, Asked(arguments.quick, arguments.outage_minutes, dict(found)))
    if arguments.into is not None:
        write(arguments.into, name, content(found[name], _command(), machine))
    section = PARTS[name].present(found[name])
    print(as_text(section), flush=True)
    return all(target.met for target in section.targets)


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "kafka": _kafka_version(),
        "chdb": version("chdb"),
        "load_average": os.getloadavg()[0],
    }


def _kafka_version() -> str:
    return next(artifact.version for artifact in locked_artifacts() if artifact.name == "kafka-clients")


def _command() -> str:
    return shlex.join([".venv/bin/python", "-m", "tests.benchmarks", *sys.argv[1:]])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    add("parts", nargs="*", metavar="part", help=f"which, of {', '.join(PARTS)} (default: all)")
    add("--outage-minutes", type=float, default=1.0, help="how long the warehouse is away (default: %(default)s)")
    add("--quick", action="store_true", help="a tiny run, to see that it works; its figures mean nothing, and are not written")
    add("--into", type=Path, help=f"where the figures go (default: {DOCS}, and nowhere with --quick)")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no part is named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if arguments.into is None and not arguments.quick:
        arguments.into = DOCS
    return arguments


if __name__ == "__main__":
    sys.exit(main())
