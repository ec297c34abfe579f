"""`tailrace replay run`: fill a planned run's own table."""

import json
import logging
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from deploy.commands.sink import Stop
from deploy.replaying import refusals
from deploy.settings import environment
from stream_processors.archive.main import known_archive
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.progress import Progress
from stream_processors.replay.run import Filled, Filling, RunOptions
from stream_processors.warehouse.batch import BatchLimits

EPILOG = """\b
Examples:
  tailrace replay run r0131-7f3a9c
  tailrace replay run r0131-7f3a9c --yield                 live goes first
  tailrace replay run r0131-7f3a9c --rate 20000 --json
  tailrace replay run r0131-7f3a9c --metrics-file /var/lib/node_exporter/textfile/replay.prom
"""
LINE_EVERY_S = 10.0
BATCH_ROWS, BATCH_ROWS_YIELDING = 100_000, 10_000
WORKERS, WORKERS_YIELDING = 3, 1
_BATCH_BYTES = 32 << 20
_BYTES_IN_HAND = 64 << 20
_AGE_S_MIN, _AGE_S_MAX = 0.05, 1.0


@click.command(epilog=EPILOG)
@click.argument("run_id", metavar="RUN")
@click.option("--rate", type=click.IntRange(1), metavar="ROWS", help="At most so many records a second.")
@click.option("--yield", "gives_way", is_flag=True, help="Slower whenever the live sink falls behind what is usual here.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help=f"Inserts at once, one a partition.  [default: {WORKERS}, {WORKERS_YIELDING} with --yield]",
)
@click.option(
    "--batch-rows",
    type=click.IntRange(1, 1_000_000),
    help=f"Records an insert.  [default: {BATCH_ROWS:,}, {BATCH_ROWS_YIELDING:,} with --yield]",
)
@click.option(
    "--dead-letters-percent-max",
    type=click.IntRange(0, 100),
    default=20,
    show_default=True,
    help="A partition stops when more of its records cannot be taken, or the transform raises for more.",
)
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep figures here for node_exporter's textfile collector.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON when it ends.")
def run(  # noqa: PLR0913 - one argument an option
    *,
    run_id: str,
    rate: int | None,
    gives_way: bool,
    workers: int | None,
    batch_rows: int | None,
    dead_letters_percent_max: int,
    metrics_file: Path | None,
    as_json: bool,
) -> None:
    """Fill the run's own table, which nobody else reads, and which no live record goes to.

    May be stopped in any way, and run again: it goes on from what is in. Exits with 0 when all of the run is in, with 1 when it
    is not: it was stopped, or something has to be mended first, which is then named.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("stream_processors").setLevel(logging.INFO)
    rows, hands = (BATCH_ROWS_YIELDING, WORKERS_YIELDING) if gives_way else (BATCH_ROWS, WORKERS)
    options = replace(
        options_of(batch_rows or rows, workers or hands),
        rows_per_s_max=rate,
        gives_way=gives_way,
        dead_letters_share_max=dead_letters_percent_max / 100,
        metrics_file=metrics_file,
    )
    stop = Stop()
    with refusals():
        variables = environment()
        filling = Filling(ReplayConfig.from_environment(variables), run_id, options, known_archive(variables))
        try:
            filled = filling.fill(stop, _Teller())
        finally:
            filling.close()
    click.echo(json.dumps({**asdict(filled), "whole": filled.whole}) if as_json else _summary(filled))
    if not filled.whole:
        raise SystemExit(1)


def options_of(batch_rows: int, workers: int) -> RunOptions:
    """As fast as it goes, in batches of so many rows, so many inserts at once."""
    return RunOptions(BatchLimits(batch_rows, _BATCH_BYTES, _AGE_S_MIN, _AGE_S_MAX, _BYTES_IN_HAND), workers)


class _Teller:
    """Progress on one line of a terminal, or a line now and then elsewhere."""

    def __init__(self) -> None:
        self._said_s = 0.0

    def __call__(self, progress: Progress) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{progress}", nl=progress.done == progress.total, err=True)
        elif progress.done == progress.total or time.monotonic() - self._said_s >= LINE_EVERY_S:
            self._said_s = time.monotonic()
            click.echo(str(progress), err=True)


def _summary(filled: Filled) -> str:
    rate = filled.rows / filled.seconds if filled.seconds else 0
    counts = f"{filled.rows:,} rows, {filled.dead_letters:,} dead letters in {filled.seconds:.1f} s ({rate:,.0f} rows/s)"
    if filled.whole:
        return f"{filled.run} is filled: {counts}\nNext: tailrace replay verify {filled.run}"
    stopped = f"{filled.run} was stopped at {filled.done:,} of {filled.total:,} offsets: {counts}"
    return f"{stopped}\nNext: tailrace replay run {filled.run}"
