"""`make faults`: the sink under every fault of a plan, judged by a ledger.

Figures go into docs/faults/*.json, and from there into docs/fault-report.md. Exit code 0 where nothing was lost and nothing was
twice (and, with --mutants, every mutant was found), 1 where something was.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.fleet import PROTOCOLS
from tests.faults.mutant import MUTANTS
from tests.faults.outcome import report
from tests.faults.proof import prove
from tests.faults.running import command, log_of, planned, run, run_name
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.stack import LocalStack, local_stack

FIGURES = Path("docs/faults")
REPORT = Path("docs/fault-report.md")
PROOFS = "mutants.json"
SEED_MAX = 1 << 31
ONLY = "only"

Job = tuple[Scenario, int, str]


def main() -> int:
    arguments = _arguments()
    arguments.seed = secrets.randbelow(SEED_MAX) if arguments.seed is None else arguments.seed
    if arguments.plan:
        for scenario, seed, protocol in _jobs(arguments):
            _say(command(scenario, seed, protocol, arguments.share), *planned(scenario, seed, arguments.share))
        return 0
    with tempfile.TemporaryDirectory(prefix="tailrace-faults-") as directory, local_stack(Path(directory) / "home") as stack:
        sound = [_run(arguments, stack, job) for job in _due(arguments)]
        proved = _prove(arguments, stack) if arguments.mutants else True
    return 0 if all(sound) and proved else 1


def _due(arguments: argparse.Namespace) -> Iterator[Job]:
    """Jobs until the minutes are over; with --mutants alone none."""
    deadline_s = time.monotonic() + arguments.minutes * 60
    for job in _jobs(arguments):
        if arguments.minutes and time.monotonic() > deadline_s:
            return
        yield job


def _jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Round after round of further seeds where there are minutes to fill."""
    seed = arguments.seed
    while True:
        for name in arguments.scenario or ([] if arguments.mutants == ONLY else SCENARIOS):
            scenario = SCENARIOS[name]
            for protocol in arguments.protocol or scenario.protocols:
                yield scenario, seed, protocol
        if not arguments.minutes:
            return
        seed += 1


def _run(arguments: argparse.Namespace, stack: LocalStack, job: Job) -> bool:
    scenario, seed, protocol = job
    _say(f"$ {command(scenario, seed, protocol, arguments.share, arguments.mutant)}")
    outcome = run(stack, scenario, seed, protocol, arguments.share, arguments.mutant)
    _say(str(outcome), *outcome.verdict.examples, *outcome.trouble.splitlines()[-5:])
    if arguments.logs and not outcome.passed:
        name = run_name(scenario, seed, protocol, arguments.mutant)
        arguments.logs.mkdir(parents=True, exist_ok=True)
        (arguments.logs / f"{name}.log").write_bytes(log_of(stack, name).read_bytes())
    if arguments.report:
        _write(f"{outcome.scenario}-{outcome.protocol}.json", outcome.as_json())
    return outcome.passed


def _prove(arguments: argparse.Namespace, stack: LocalStack) -> bool:
    proofs = []
    for proof in prove(stack, arguments.seed, list(MUTANTS)):
        _say(str(proof), f"$ {proof.again}")
        proofs.append(proof)
    if arguments.report:
        _write(PROOFS, [asdict(proof) for proof in proofs])
    return all(proof.found for proof in proofs)


def _write(name: str, content: Any) -> None:
    """The figures, and the report made of all that are there."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    kept = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIGURES.glob("*.json"))}
    proofs = kept.pop(PROOFS, [])
    REPORT.write_text(report(list(kept.values()), proofs, _machine()) + "\n", encoding="utf-8")


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def _say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    add = parser.add_argument
    add("--scenario", choices=sorted(SCENARIOS), action="append", help="which; may be given again (default: all)")
    add("--protocol", choices=sorted(PROTOCOLS), action="append", help="the group's (default: each scenario's own)")
    add("--seed", type=int, help="what the plan is drawn from (default: a fresh one, printed)")
    add("--share", type=float, default=1.0, help="of the usual number of faults and length of outages")
    add("--minutes", type=float, default=0, help="go on with further seeds for so long (default: one round)")
    add("--mutant", choices=sorted(MUTANTS), default="", help="run the sink with one rule taken away")
    add("--mutants", choices=("too", ONLY), help="see whether every mutant is found, after the scenarios or alone")
    add("--report", action="store_true", help=f"write {FIGURES}/*.json and {REPORT}")
    add("--logs", type=Path, help="keep the sinks' logs of runs that failed in this directory")
    add("--plan", action="store_true", help="print the faults that would be injected, and end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
