"""`tailrace replay list | show`: the runs, and how they stand."""

import json
from typing import Any

import click

from deploy.replaying import known, office
from stream_processors.replay.runs import Run
from stream_processors.replay.words import moment, run_line, run_text

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

LIST_EPILOG = """\b
Examples:
  tailrace replay list
  tailrace replay list --json
"""
SHOW_EPILOG = """\b
Examples:
  tailrace replay show r0131-7f3a9c
  tailrace replay show r0131-7f3a9c --json
"""


@click.command("list", epilog=LIST_EPILOG)
@_json
def list_runs(*, as_json: bool) -> None:
    """List the runs, the oldest first, and how each one stands."""
    with office() as opened:
        runs = opened.store.all()
    if as_json:
        click.echo(json.dumps({"runs": [_fields(run) for run in runs]}))
        return
    for run in runs:
        click.echo(run_line(run))
    if not runs:
        click.echo("no run has been planned", err=True)


@click.command(epilog=SHOW_EPILOG)
@click.argument("run_id", metavar="RUN")
@_json
def show(*, run_id: str, as_json: bool) -> None:
    """Show one run: its plan, how it stands, and what has happened to it. Exits with 1 where no run has that name."""
    with office() as opened:
        run = known(opened, run_id)
    click.echo(json.dumps(_fields(run)) if as_json else run_text(run))


def _fields(run: Run) -> dict[str, Any]:
    steps = [
        {"seq": step.seq, "step": step.step, "detail": step.detail, "at": moment(step.at_ms), "by": step.host_pid}
        for step in run.steps
    ]
    return {
        "run": run.manifest.run,
        "state": run.state,
        "planned_at": moment(run.planned_ms),
        "steps": steps,
        "manifest": run.manifest.as_fields(),
    }
