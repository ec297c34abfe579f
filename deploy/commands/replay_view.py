"""`tailrace replay list | show`: the runs, and how they stand."""

import json
from collections.abc import Sequence
from typing import Any

import click

from deploy.replaying import known, office
from stream_processors.replay.exchange import unfinished
from stream_processors.replay.holds import held_tables
from stream_processors.replay.runs import Run, State
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
        runs, held = opened.store.all(), held_tables(opened.writer)
    if as_json:
        click.echo(json.dumps({"runs": [_fields(run) for run in runs], "held": held}))
        return
    for run in runs:
        click.echo(run_line(run))
    for table in held:
        click.echo(f"{table} is held: {hold_words(table, runs)}", err=True)
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


def hold_words(table: str, runs: Sequence[Run]) -> str:
    """Who holds a table, and what to do where that one is gone."""
    for run in runs:
        if run.manifest.table == table and (begun := unfinished(run)) is not None:
            name, word = run.manifest.run, "swap" if begun.step == State.PREPARING else "rollback"
            since = f"for {name}, by {begun.host_pid} since {moment(begun.at_ms)}"
            return f"{since}; if that has died, `tailrace replay {word} {name}` goes on, `tailrace replay abort {name}` undoes it"
    return f"no run claims that; `tailrace replay abort --table {table}` lifts it"
