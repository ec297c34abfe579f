"""`tailrace env`."""

import json
import shlex

import click

from deploy.settings import (
    KAFKA_BOOTSTRAP,
    REGISTRY_URL,
    TOPIC_PREFIX,
    WAREHOUSE_READ_URL,
    WAREHOUSE_URL,
    environment,
    installation,
)

NAMES = (KAFKA_BOOTSTRAP, REGISTRY_URL, WAREHOUSE_URL, WAREHOUSE_READ_URL, TOPIC_PREFIX)


@click.command(epilog='\b\nExamples:\n  eval "$(tailrace env)"\n  tailrace env --json')
@click.option("--json", "as_json", is_flag=True, help="Print the variables as JSON.")
def env(*, as_json: bool) -> None:
    """Print the running stack's addresses as shell exports. They hold passwords. Exits with 3 where nothing runs."""
    found = {**environment(), TOPIC_PREFIX: installation().topic_prefix}
    shown = {name: found[name] for name in NAMES if name in found}
    if as_json:
        click.echo(json.dumps(shown, indent=1))
    else:
        click.echo("\n".join(f"export {name}={shlex.quote(value)}" for name, value in shown.items()))
