"""`tailrace up`."""

import json
import os
import sys
from collections.abc import Mapping

import click

from deploy.installing import Installed, bring_up
from deploy.settings import KAFKA_BOOTSTRAP, REGISTRY_URL, WAREHOUSE_READ_URL, WAREHOUSE_URL

ADDRESSES = (KAFKA_BOOTSTRAP, REGISTRY_URL, WAREHOUSE_URL, WAREHOUSE_READ_URL)


@click.command(epilog='\b\nExamples:\n  tailrace up\n  TAILRACE_KAFKA_PORT=19092 tailrace up\n  eval "$(tailrace env)"')
@click.option("--json", "as_json", is_flag=True, help="Print addresses (with passwords), outcomes and seconds as JSON.")
def up(*, as_json: bool) -> None:
    """Start the local stack, or provision the existing services that are named.

    A part that TAILRACE_KAFKA_BOOTSTRAP, TAILRACE_REGISTRY_URL or TAILRACE_WAREHOUSE_URL names is not started; topics, schemas
    and tables are made where they are missing, and kept where they are. Twice is harmless.
    """
    installed = bring_up(os.environ, lambda line: click.echo(line, file=sys.stderr))
    if as_json:
        click.echo(json.dumps(_as_json(installed), indent=1))
        return
    for outcome in installed.outcomes:
        click.echo(f"{outcome.part}: {', '.join(outcome.made) or 'all there'}")
        for difference in outcome.differs:
            click.echo(f"  {difference}")
    click.echo(f"ready in {installed.seconds['total']:.1f} s; `tailrace env` prints the addresses")


def _as_json(installed: Installed) -> Mapping[str, object]:
    return {
        "environment": {name: installed.variables[name] for name in ADDRESSES if name in installed.variables},
        "outcomes": [{"part": each.part, "made": each.made, "differs": each.differs} for each in installed.outcomes],
        "seconds": installed.seconds,
    }
