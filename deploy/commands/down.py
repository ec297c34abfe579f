"""`tailrace down`."""

import json
import os

import click

from deploy.local.stack import stop_stack
from deploy.settings import home_of


@click.command(epilog="\b\nExamples:\n  tailrace down\n  tailrace down --json")
@click.option("--json", "as_json", is_flag=True, help="Print what was ended as JSON.")
def down(*, as_json: bool) -> None:
    """Stop the local stack; its data stay. Twice is harmless."""
    ended = stop_stack(home_of(os.environ))
    if as_json:
        click.echo(json.dumps({"ended": ended}))
    else:
        click.echo("the local stack has ended; its data stay" if ended else "no local stack runs")
