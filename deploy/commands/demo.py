"""`tailrace demo`: the whole way of an event on real parts and real input."""

import os
import signal
import sys
import time
from pathlib import Path

import click

from deploy.demo.look_further import look_further
from deploy.demo.run import run_demo
from deploy.demo.stages import Stages
from deploy.settings import home_of

EPILOG = """\b
Examples:
  tailrace demo
  tailrace demo --json > demo.json
  tailrace demo --keep
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--keep", is_flag=True, help="Leave the stack running, and say how to look further.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="The demo's own home; it is emptied first.  [default: demo below TAILRACE_HOME]",
)
def demo(*, as_json: bool, keep: bool, home: Path | None) -> None:
    """Show the whole way of an event: 60,000 recommendations that a fashion shop once logged, and 2,000 requests of simulated
    users, through Kafka into the warehouse and out as scorecards.

    It starts a stack of its own, apart from the one in TAILRACE_HOME, and takes no TAILRACE_* setting but the cache's. Exits
    with 1 where anything is missing or duplicated.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    own_home = (home or home_of(os.environ) / "demo").expanduser().resolve()
    stages = Stages(time.monotonic, lambda line: click.echo(line, err=True))
    result = run_demo(own_home, os.environ, stages, keep=keep)
    from deploy.demo import report  # noqa: PLC0415 - read in with the journey, while the stack started

    click.echo(report.as_json(result) if as_json else report.as_text(result))
    click.echo(f"\n{look_further(_own_name(), own_home, kept=keep)}", err=as_json)
    if not result.complete:
        raise SystemExit(1)


def _own_name() -> str:
    """How the command was called, so that what is said can be typed as it stands."""
    return sys.argv[0] if Path(sys.argv[0]).name == "tailrace" else "tailrace"
