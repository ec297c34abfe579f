"""`tailrace derive`: tables computed from raw ones, for the past and from now on."""

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TextIO

import click

from deploy.replaying import refusals
from deploy.settings import environment
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.derivation import Derivation, parse
from stream_processors.replay.derived import Built, Derived
from stream_processors.replay.errors import ReplayRefused, WrongQuestion
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import RunStore
from stream_processors.replay.swap import is_filled
from stream_processors.replay.swapping import derived
from stream_processors.warehouse.errors import Retryable

PERIOD_S = 10.0

APPLY_EPILOG = """\b
Examples:
  tailrace derive apply clicks_by_item.sql
  tailrace derive apply --run r1123-7f3a9c

\b
A definition is a SELECT with a head of comments; {source} stands for one day of the raw table, an event once:
  -- table: clicks_by_item
  -- source: interactions
  -- order by: item_id
  SELECT item_id, count() AS clicks, uniqExact(unit_id) AS units
  FROM {source} WHERE kind = 'click' GROUP BY item_id
"""
REFRESH_EPILOG = """\b
Examples:
  tailrace derive refresh
  tailrace derive refresh clicks_by_item
  tailrace derive refresh --follow
"""
LIST_EPILOG = """\b
Examples:
  tailrace derive list
  tailrace derive list --json
"""
DROP_EPILOG = """\b
Examples:
  tailrace derive drop clicks_by_item
"""

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def derive() -> None:
    """Tables derived from raw ones, computed day by day; each day is put in whole, and again when its source has changed."""


@derive.command(epilog=APPLY_EPILOG)
@click.argument("file", type=click.File("r"), required=False)
@click.option("--run", help="A run whose rows stand for days that the raw table has no more; its definition, where no FILE is.")
@_json
def apply(*, file: TextIO | None, run: str | None, as_json: bool) -> None:
    """Make a derived table, or define it anew, and fill it for every day that there is."""
    if file is None and run is None:
        raise click.UsageError("name a FILE with the definition, or a --run that was planned with one")
    with _desk() as (tables, store):
        manifest = None if run is None else _manifest(store, run)
        text = file.read() if file is not None else manifest.derive if manifest is not None else None
        if text is None:
            raise ReplayRefused(f"{run} was planned without --derive: name the FILE as well")
        derivation = parse(text)
        if manifest is not None and manifest.table != derivation.source:
            raise WrongQuestion(f"{run} is of {manifest.table}, and {derivation.table} is derived from {derivation.source}")
        _say(tables.apply(derivation, None if manifest is None else manifest.run_table), as_json=as_json)


@derive.command(epilog=REFRESH_EPILOG)
@click.argument("table", required=False)
@click.option("--follow", is_flag=True, help="Go on until SIGTERM.")
@click.option("--every", type=click.FloatRange(0.1), default=PERIOD_S, show_default=True, help="Seconds between two looks.")
@_json
def refresh(*, table: str | None, follow: bool, every: float, as_json: bool) -> None:
    """Compute the days again whose source has changed. A swap and a rollback do so for the days that they touch."""
    stopped = threading.Event()
    if follow:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    with _desk() as (tables, _):
        while True:
            try:
                _say(tables.refresh(_chosen(tables, table)), as_json=as_json, quiet=follow)
            except Retryable as trouble:
                if not follow:
                    raise
                click.echo(f"again in {every:g} s: {trouble}", err=True)
            if not follow or stopped.wait(every):
                return


@derive.command("list", epilog=LIST_EPILOG)
@_json
def list_tables(*, as_json: bool) -> None:
    """List the derived tables, their days, and which of those are stale."""
    with _desk() as (tables, _):
        found = [(each, tables.days(each)) for each in tables.definitions()]
    if as_json:
        listed = [{"table": each.table, "source": each.source, "days": [asdict(day) for day in days]} for each, days in found]
        click.echo(json.dumps({"tables": listed}))
        return
    for each, days in found:
        span = f"{days[0].day} to {days[-1].day}" if days else "no day"
        stale = [day.day for day in days if day.stale]
        state = f"stale: {', '.join(stale)}" if stale else "up to date"
        click.echo(f"{each.table:30} from {each.source:20} {span}, {sum(day.rows for day in days):,} rows, {state}")


@derive.command(epilog=DROP_EPILOG)
@click.argument("table")
def drop(*, table: str) -> None:
    """Drop a derived table. Raw tables are not touched."""
    with _desk() as (tables, _):
        tables.drop(table)
    click.echo(f"{table} is gone")


@contextmanager
def _desk() -> Iterator[tuple[Derived, RunStore]]:
    with refusals():
        config = ReplayConfig.from_environment(environment())
        with derived(config.warehouse_url, config.warehouse_options, lambda line: click.echo(line, err=True)) as parts:
            yield parts


def _manifest(store: RunStore, name: str) -> Manifest:
    run = store.get(name)
    if run is None:
        raise ReplayRefused(f"no run is named {name}: `tailrace replay list` names them all")
    if not is_filled(run):
        raise ReplayRefused(f"{name} is not filled: `tailrace replay run {name}` goes on with it")
    return run.manifest


def _chosen(tables: Derived, table: str | None) -> list[Derivation]:
    found = [each for each in tables.definitions() if table in (None, each.table)]
    if table is not None and not found:
        raise ReplayRefused(f"no derived table is named {table}: `tailrace derive list` names them")
    return found


def _say(built: Sequence[Built], *, as_json: bool, quiet: bool = False) -> None:
    if quiet and not built:
        return
    if as_json:
        click.echo(json.dumps({"built": [each._asdict() for each in built]}))
    else:
        click.echo(f"{len(built)} days were computed" if built else "every day is up to date")
