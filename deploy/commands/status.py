"""`tailrace status`."""

import json
import os
import time
from dataclasses import asdict

import click

from deploy.local.stack import PartStatus, stack_status
from deploy.settings import StackSettings


@click.command(epilog="\b\nExamples:\n  tailrace status\n  tailrace status --json")
@click.option("--json", "as_json", is_flag=True, help="Print the parts as JSON.")
def status(*, as_json: bool) -> None:
    """Say how the parts of the local stack are. Exits with 1 unless all of them are healthy."""
    parts = stack_status(StackSettings.from_environment(os.environ), time.time())  # noqa: TID251 - a command is a composition root
    if as_json:
        click.echo(json.dumps({"parts": [asdict(part) for part in parts]}, indent=1))
    else:
        for part in parts:
            click.echo(_line(part))
    if any(part.state != "healthy" for part in parts):
        raise SystemExit(1)


def _line(part: PartStatus) -> str:
    if part.pid is None or part.uptime_s is None or part.memory_bytes is None:
        return f"{part.name:10} {part.state}{f'; see {part.log}' if part.log else ''}"
    memory = f"{part.memory_bytes >> 20} MiB"
    restarts = f"  restarted {part.restarts} times" if part.restarts else ""
    return f"{part.name:10} {part.state:14} port {part.port:<6} pid {part.pid:<8} up {part.uptime_s:.0f} s  {memory}{restarts}"
