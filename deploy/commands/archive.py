"""`tailrace archive`: Kafka's records in files, for longer than Kafka keeps them."""

import json
import signal
import sys
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import click

from deploy.settings import environment
from schemas.errors import PartUnreachable
from stream_processors.archive.check import Checked, PartitionSummary, check
from stream_processors.archive.config import ARCHIVED, ArchiveLocation, ArchiverConfig
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.ledger import Entry
from stream_processors.archive.main import catch_up, follow
from stream_processors.archive.object_store import ObjectStore

RETRY_S = 5.0
RUN_EPILOG = """\b
Examples:
  tailrace archive run file:///var/lib/tailrace/archive     what Kafka has now, then end
  tailrace archive run --follow s3://bucket/tailrace        and what comes; credentials as AWS_* variables
  tailrace archive run --topic interactions --json URL

\b
Settings beside the URL (else TAILRACE_ARCHIVE_URL) and the addresses of Kafka and the registry:
  TAILRACE_ARCHIVE_ROWS_MAX, _BYTES_MAX      250000, 64 MiB: how large a file grows
  TAILRACE_ARCHIVE_AGE_S_MAX                 300: with --follow, how long records wait for their file to fill
  TAILRACE_ARCHIVE_BYTES_IN_HAND_MAX         256 MiB, over all partitions
  TAILRACE_ARCHIVE_OPTIONS                   name=value,…: of the store (aws_endpoint, aws_region, …), of its HTTP client
  TAILRACE_METRICS_PORT                      0: no /metrics
"""
CHECK_EPILOG = """\b
Examples:
  tailrace archive check file:///var/lib/tailrace/archive   every entry, and that every file is there with its length
  tailrace archive check --deep --json                      every byte of the archive in TAILRACE_ARCHIVE_URL
"""
LIST_EPILOG = """\b
Examples:
  tailrace archive list
  tailrace archive list s3://bucket/tailrace --json
"""
_url = click.argument("url", required=False)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Stop:
    """Turns true with SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self._stopped.is_set()

    def wait(self, timeout_s: float) -> None:
        self._stopped.wait(timeout_s)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped.set()


@click.group()
def archive() -> None:
    """Keep Kafka's records in a directory or an object store, so that replays reach back further than Kafka does."""


@archive.command(epilog=RUN_EPILOG)
@_url
@click.option("--follow", "following", is_flag=True, help="Go on with what comes, until SIGTERM.")
@click.option(
    "--topic", "topics", multiple=True, type=click.Choice(ARCHIVED), help="Only this topic; may be given more than once."
)
@_json
def run(*, url: str | None, following: bool, topics: tuple[str, ...], as_json: bool) -> None:
    """Write each topic's records to the archive at URL, each offset once, from where the archive ends.

    Nothing else is kept, so it may be killed and started again at any moment, and several may run at once. Records that are no
    datum of their topic are kept byte for byte.
    """
    config = ArchiverConfig.from_environment(environment(), url, topics)
    stop, said = _Stop(), _Said(as_json=as_json)
    try:
        if following:
            follow(config, stop, time.monotonic, said.entry, lambda trouble: _complain(trouble, stop))
        else:
            catch_up(config, stop, time.monotonic, said.entry, _show_progress)
    except ArchiveDamaged as damage:
        raise click.ClickException(str(damage)) from damage
    said.close()


@archive.command("check", epilog=CHECK_EPILOG)
@_url
@click.option("--deep", is_flag=True, help="Read every byte, and compare it with its sum.")
@click.option("--sweep", is_flag=True, help="Delete files that a stopped archiver left and that nothing names any more.")
@_json
def check_archive(*, url: str | None, deep: bool, sweep: bool, as_json: bool) -> None:
    """Find what is missing, truncated, altered or there twice. Exits with 1 where anything is."""
    found = list(check(_store(url), deep=deep, sweep=sweep))
    problems = [problem for each in found for problem in each.problems]
    if as_json:
        click.echo(
            json.dumps({"sound": not problems, "problems": [asdict(each) for each in problems], "partitions": _plain(found)})
        )
    else:
        for problem in problems:
            click.echo(f"{problem.path}: {problem.what}")
        rows, files = sum(each.partition.rows for each in found), sum(each.partition.files for each in found)
        click.echo(f"{len(problems)} problems; {files} files with {rows} records in {len(found)} partitions")
    sys.exit(1 if problems else 0)


@archive.command("list", epilog=LIST_EPILOG)
@_url
@_json
def list_archive(*, url: str | None, as_json: bool) -> None:
    """Say what is archived of each partition."""
    found = list(check(_store(url), deep=False))
    if as_json:
        click.echo(json.dumps({"partitions": _plain(found)}))
        return
    for each in found:
        click.echo(_line(each.partition))
    click.echo(f"{len(found)} partitions", err=True)


class _Said:
    """Says what was archived: each entry as it comes, the sum at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._started_s = as_json, time.monotonic()
        self._sums = {"entries": 0, "files": 0, "rows": 0, "raw_rows": 0, "bytes": 0, "lost_offsets": 0}

    def entry(self, entry: Entry) -> None:
        raw = sum(file.rows for file in entry.files if file.schema_id is None)
        lost = sum(end - first for first, end in entry.lost)
        sizes = (1, len(entry.files), entry.rows, raw, sum(file.bytes for file in entry.files), lost)
        self._sums = {name: self._sums[name] + size for name, size in zip(self._sums, sizes, strict=True)}
        place = f"{entry.topic}[{entry.partition}]"
        if lost:
            click.echo(f"{place}: {lost} offsets had expired before they were archived: {entry.lost}", err=True)
        if not self._as_json:
            click.echo(f"{place} [{entry.first}, {entry.end}): {entry.rows} records in {len(entry.files)} files")

    def close(self) -> None:
        seconds = time.monotonic() - self._started_s
        if self._as_json:
            click.echo(json.dumps({**self._sums, "seconds": round(seconds, 3)}))
        else:
            rate = self._sums["rows"] / seconds
            click.echo(f"{self._sums['rows']} records in {self._sums['files']} files, {seconds:.1f} s ({rate:,.0f} records/s)")


def _complain(trouble: PartUnreachable, stop: _Stop) -> None:
    click.echo(f"{trouble}; asked again in {RETRY_S:.0f} s", err=True)
    stop.wait(RETRY_S)


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} offsets", nl=done == total, err=True)


def _store(url: str | None) -> ObjectStore:
    location = ArchiveLocation.from_environment(environment(), url)
    return ObjectStore(location.url, location.options)


def _plain(found: list[Checked]) -> list[dict[str, Any]]:
    return [asdict(each.partition) for each in found]


def _line(each: PartitionSummary) -> str:
    span = "" if each.oldest_ms is None or each.newest_ms is None else f"{_time(each.oldest_ms)} – {_time(each.newest_ms)}"
    raw = f", {each.raw_rows} of them no data" if each.raw_rows else ""
    lost = f", {each.lost_offsets} offsets lost" if each.lost_offsets else ""
    left = f", {each.left_over} files left over" if each.left_over else ""
    size = f"{each.rows} records{raw}{lost} in {each.files} files, {each.bytes:,} bytes{left}"
    return f"{each.topic}[{each.partition}] {each.topic_id} [0, {each.end}) {span} {size}"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
