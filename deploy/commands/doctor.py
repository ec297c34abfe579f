"""`tailrace doctor`."""

import json
import os
import time
from dataclasses import asdict

import click

from deploy.examining import examine
from deploy.settings import environment


@click.command(epilog="\b\nExamples:\n  tailrace doctor\n  tailrace doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print every check as JSON.")
def doctor(*, as_json: bool) -> None:
    """Find what is wrong with the installation, and say what to do. Exits with 1 where there is a problem."""
    checks = list(examine(os.environ, environment(), time.time()))  # noqa: TID251 - a command is a composition root
    healthy = not any(check.problems for check in checks)
    if as_json:
        click.echo(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        for check in checks:
            click.echo(f"{'problem' if check.problems else 'ok':8} {check.name}")
            for problem in check.problems:
                click.echo(f"         {problem.what} ({problem.where}): {problem.remedy}")
    if not healthy:
        raise SystemExit(1)
