"""`make faults`: the sink under every fault of a plan, judged by the ledger.

Figures go into docs/faults/*.json, and from there into docs/fault-report.md.

Exit code 0 where nothing was lost and nothing was twice, 1 where something was.
"""

import argparse
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fleet import LAUNCH, PROTOCOLS
from tests.faults.outcome import Outcome, report
from tests.faults.running import command, log_of, planned, run
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.stack import LocalStack, local_stack

FIGURES = Path("docs/faults")
REPORT = Path("docs/fault-report.md")
SEED_MAX = 1 << 31

Job = tuple[Scenario, int, str]


def main() -> int:
    arguments = _arguments()
    if arguments.plan:
        for scenario, seed, _ in _jobs(arguments):
            _say(*planned(scenario, seed, arguments.share))
        return 0
    launch = ("tests.faults.mutant", arguments.mutant) if arguments.mutant else LAUNCH
    failed = 0
    deadline = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory(prefix="tailrace-faults-") as directory, local_stack(Path(directory) / "home") as stack:
        for scenario, seed, protocol in _jobs(arguments):
            if arguments.minutes and time.monotonic() > deadline:
                break
            _say(f"$ {command(scenario, seed, protocol, arguments.share, launch)}")
            outcome = run(stack, scenario, seed, protocol, arguments.share, launch)
            _say(str(outcome), *outcome.verdict.examples, *outcome.trouble.splitlines()[-5:])
            failed += not outcome.passed
            _keep(arguments, stack, outcome)
    return 1 if failed else 0


def _say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append", help="which (default: all)")
    parser.add_argument(
        "--protocol", choices=sorted(PROTOCOLS), action="append", help="the group's (default: each scenario's own)"
    )
    parser.add_argument("--seed", type=int, help="what the plan is drawn from (default: a fresh one, printed)")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of faults and length of outages")
    parser.add_argument("--minutes", type=float, default=0, help="go on with further seeds for so long (default: one round)")
    parser.add_argument("--mutant", help="run the sink with one rule taken away; see tests/faults/mutant.py")
    parser.add_argument("--report", action="store_true", help=f"write {FIGURES}/*.json and {REPORT}")
    parser.add_argument("--logs", type=Path, help="keep the sinks' logs of runs that failed in this directory")
    parser.add_argument("--plan", action="store_true", help="print the faults that would be injected, and end")
    return parser.parse_args()


def _jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Round after round of fresh seeds where there are minutes to fill."""
    first = arguments.seed if arguments.seed is not None else secrets.randbelow(SEED_MAX)
    seed = first
    while True:
        for name in arguments.scenario or SCENARIOS:
            scenario = SCENARIOS[name]
            for protocol in arguments.protocol or scenario.protocols:
                yield scenario, seed, protocol
        if not arguments.minutes:
            return
        seed += 1


def _keep(arguments: argparse.Namespace, stack: LocalStack, outcome: Outcome) -> None:
    name = f"{outcome.scenario}_{outcome.protocol}_{outcome.seed}".replace("-", "_")
    if arguments.logs and not outcome.passed:
        arguments.logs.mkdir(parents=True, exist_ok=True)
        (arguments.logs / f"{name}.log").write_bytes(log_of(stack, name).read_bytes())
    if not arguments.report:
        return
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"{outcome.scenario}-{outcome.protocol}.json"
    path.write_text(json.dumps(outcome.as_json(), indent=1) + "\n", encoding="utf-8")
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIGURES.glob("*.json"))]
    REPORT.write_text(report(kept, _machine()) + "\n", encoding="utf-8")


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
