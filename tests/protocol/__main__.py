"""`python -m tests.protocol`: explore the protocol and its broken variants, and print what was found.

Exit codes: 0 every verdict is the expected one, 1 some is not, 2 wrong usage.
"""

import argparse
import resource
import sys
import time

import click

from tests.protocol.explorer import Explorer, Verdict
from tests.protocol.variants import BROKEN_TABLE, BROKEN_WORLD, LARGE, OURS, STATES_MAX, Variant


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description=__doc__)
    parser.add_argument("--all", action="store_true", help="the large configurations too: tens of minutes, and a gigabyte")
    parser.add_argument("--only", metavar="WORDS", default="", help="only variants whose name holds WORDS")
    parser.add_argument("--states-max", type=int, default=STATES_MAX, help="give up past so many (default: %(default)s)")
    arguments = parser.parse_args()
    variants = [*OURS, *BROKEN_TABLE, *BROKEN_WORLD, *(LARGE if arguments.all else ())]
    named = [variant for variant in variants if arguments.only in variant.name]
    surprises = [variant for variant in named if not _explore(variant, arguments.states_max)]
    click.echo(f"{len(named)} variants, {len(surprises)} verdicts other than expected")
    return 1 if surprises or not named else 0


def _explore(variant: Variant, states_max: int) -> bool:
    """Whether the verdict is the expected one."""
    began_s = time.process_time()
    verdict = Explorer(variant.advance, variant.rules).run(states_max)
    expected = verdict.violation is variant.expected and (verdict.complete or verdict.violation is not None)
    seconds, memory_mib = time.process_time() - began_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    click.echo(f"{'' if expected else 'UNEXPECTED '}{variant.name}: {_words(verdict)}")
    click.echo(f"    {verdict.states} states, {seconds:.1f} s of processor, at most {memory_mib} MiB so far")
    for number, label in enumerate(verdict.trace, 1):
        click.echo(f"    {number:3} {label}")
    return expected


def _words(verdict: Verdict) -> str:
    if verdict.violation is not None:
        return verdict.violation.value
    return "safe, and always able to go on" if verdict.complete else "nothing found within the limit of states"


if __name__ == "__main__":
    sys.exit(main())
