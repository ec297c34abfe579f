"""`make blast-radius`: what a worker's users feel while each part behind it is dead, hangs or is slow.

Writes docs/blast-radius.md and its JSON. Exit code 0 where every condition is within its limit, 1 where one is not.
"""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.blast_radius.figures import UNTOUCHED, failed
from tests.blast_radius.ground import ground
from tests.blast_radius.load import Block
from tests.blast_radius.report import EMISSION, met, rows, write
from tests.blast_radius.running import compared, conditions, rounds
from tests.blast_radius.workers import Load

DOCS = Path("docs")


def main() -> int:
    arguments = _arguments()
    wanted = conditions(arguments.only)
    load = Load(arguments.rate, arguments.seconds)
    found: list[dict[str, Block]] = []
    with tempfile.TemporaryDirectory(prefix="tailrace-blast-") as directory, ground(Path(directory)) as stands:
        for blocks in rounds(stands, load, wanted, arguments.rounds, arguments.seed):
            found.append(blocks)
            print(f"round {len(found)} of {arguments.rounds}", file=sys.stderr, flush=True)
        seen = compared(stands, found, wanted)
    told = rows(seen, {name: condition.base for name, condition in wanted.items()})
    for name, row in told.items():
        row["failed"] = failed(found, UNTOUCHED if name == EMISSION else name)
    if arguments.into is not None:
        write(arguments.into, told, len(found), load, _machine())
    for name, row in told.items():
        print(f"{'ok  ' if met(name, row) else 'NOT '} {name}: p99 {row['effects']['p99']}, {row['failed']} failed", flush=True)
    return 0 if all(met(name, row) for name, row in told.items()) else 1


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.blast_radius", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=20, help="blocks of each condition (default: %(default)s)")
    add("--seconds", type=float, default=4.0, help="length of a block (default: %(default)s)")
    add("--rate", type=float, default=300.0, help="requests a second (default: %(default)s)")
    add("--seed", type=int, default=2026, help="of the order of the blocks (default: %(default)s)")
    add("--only", action="append", default=[], metavar="CONDITION", help="this one, and others so named (default: all)")
    add("--into", type=Path, help=f"where the figures go, for instance {DOCS} (default: nowhere)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
