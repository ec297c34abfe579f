"""`tailrace replay swap | rollback | abort | prune`."""

import json
from collections.abc import Callable
from dataclasses import asdict

import click

from deploy.replaying import refusals
from deploy.settings import environment
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.swap import Outcome, Result, Swapper
from stream_processors.replay.swapping import swapper

SWAP_EPILOG = """\b
Examples:
  tailrace replay swap r1123-7f3a9c
  tailrace replay swap r1123-7f3a9c --json
  tailrace replay swap r1123-7f3a9c --force "the 12 rows that differ were looked at, see INC-412"
"""
ROLLBACK_EPILOG = """\b
Examples:
  tailrace replay rollback r1123-7f3a9c
"""
ABORT_EPILOG = """\b
Examples:
  tailrace replay abort r1123-7f3a9c
  tailrace replay abort --table interactions
"""
PRUNE_EPILOG = """\b
Examples:
  tailrace replay prune r1123-7f3a9c
"""

_WORDS = {
    Result.SWAPPED: "{table} has the rows of {run}",
    Result.ROLLED_BACK: "{table} has the rows that {run} had put out of it",
    Result.UNDONE: "what was begun for {run} is undone; {table} is as it was",
    Result.LIFTED: "{table} takes inserts again",
    Result.PRUNED: "the tables that {run} had left are gone",
}
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(epilog=SWAP_EPILOG)
@click.argument("run")
@click.option("--force", metavar="REASON", help="Swap a run in that is not verified, or differs; the reason is kept in its log.")
@_json
def swap(*, run: str, force: str | None, as_json: bool) -> None:
    """Put a run's rows in the place of the live ones, all at once.

    The live sink may run: it waits while its table is held, for less than a second as a rule. Readers see the old rows or the
    new ones. Stopped anywhere, the command is run again and goes on; `abort` undoes it before readers have the new rows,
    `rollback` after. Exits with 1 where the run is refused.
    """
    _carried_out(lambda swapper: swapper.swap(run, force), as_json=as_json)


@click.command(epilog=ROLLBACK_EPILOG)
@click.argument("run")
@_json
def rollback(*, run: str, as_json: bool) -> None:
    """Put the rows back that a swap took out, at once and bit for bit. What has come live since stays."""
    _carried_out(lambda swapper: swapper.rollback(run), as_json=as_json)


@click.command(epilog=ABORT_EPILOG)
@click.argument("run", required=False)
@click.option("--table", help="Lift the hold of this table, which no run claims.")
@_json
def abort(*, run: str | None, table: str | None, as_json: bool) -> None:
    """Undo a swap or a rollback that was left half-way: its hold is lifted, the table is as it was.

    Exits with 1 where there is nothing to undo, and where readers have the new rows already.
    """
    if (run is None) == (table is None):
        raise click.UsageError("name a run, or the --table whose hold is to be lifted")
    _carried_out(lambda swapper: swapper.abort(run) if run else swapper.lift(table or ""), as_json=as_json)


@click.command(epilog=PRUNE_EPILOG)
@click.argument("run")
@_json
def prune(*, run: str, as_json: bool) -> None:
    """Drop what a run has left in the warehouse: its table, and what its swap put aside. No rollback after this."""
    _carried_out(lambda swapper: swapper.prune(run), as_json=as_json)


def _carried_out(asked: Callable[[Swapper], Outcome], *, as_json: bool) -> None:
    with refusals(), swapper(ReplayConfig.from_environment(environment()), lambda line: click.echo(line, err=True)) as parts:
        outcome = asked(parts)
    if as_json:
        click.echo(json.dumps(asdict(outcome)))
        return
    days = f" on {', '.join(outcome.touched)}" if outcome.touched else ""
    held = f"; held for {outcome.seconds['held']:.2f} s" if "held" in outcome.seconds else ""
    click.echo(_WORDS[outcome.result].format(run=outcome.run, table=outcome.table) + days + held)
