"""`tailrace dlq`: dead letters listed, shown, and brought into their tables once they are mended."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any, TextIO

import click

from deploy.parameters import MomentType
from deploy.settings import environment
from schemas.errors import DatumError, PartUnreachable
from stream_processors.dead_letters.desk import DeadLetterDesk, DeskConfig, Mended
from stream_processors.dead_letters.replay import Result, Verdict
from stream_processors.dead_letters.store import PAGE_LETTERS_MAX, Choice, Coordinates, LetterSummary
from stream_processors.dead_letters.view import time_text
from stream_processors.warehouse.errors import Retryable

LIST_EPILOG = """\b
Examples:
  tailrace dlq list --since 24h
  tailrace dlq list --topic tailrace.interactions --reason datum --limit 20
  tailrace dlq list --json
"""
SHOW_EPILOG = """\b
Examples:
  tailrace dlq show tailrace.interactions:0:17
  tailrace dlq show tailrace.interactions:0:17 --json > letter.json
  tailrace dlq show tailrace.interactions:0:17 --raw | xxd
"""
REPLAY_EPILOG = """\b
Examples:
  tailrace dlq replay tailrace.interactions:0:17
  tailrace dlq replay --reason unknown_schema --since 2h --dry-run
  tailrace dlq replay --repaired letters.jsonl --json
  tailrace dlq replay --all
"""


class CoordinatesType(click.ParamType):
    name = "topic:partition:offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Coordinates:
        try:
            return Coordinates.from_text(value)
        except ValueError:
            self.fail(f"{value!r} is not TOPIC:PARTITION:OFFSET, as in tailrace.interactions:0:17", param, ctx)


_topic = click.option("--topic", default="", help="Only of this topic, by its name with the prefix, or by its id.")
_reason = click.option("--reason", default="", help="Only with this reason: empty, magic, truncated, unknown_schema, …")
_since = click.option("--since", type=MomentType(), default=0, help="Only what Kafka took since then: 24h, 7d, 2026-01-31 (UTC).")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def dlq() -> None:
    """Look at records that the warehouse could not take, mend them, and bring them in."""


@dlq.command("list", epilog=LIST_EPILOG)
@_topic
@_reason
@_since
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the newest first.")
@_json
def list_letters(*, topic: str, reason: str, since: int, limit: int, as_json: bool) -> None:
    """Say which dead letters there are, and which of them are in by now."""
    with _desk() as desk:
        found = desk.store.newest(Choice(topic, reason, since), limit)
    if as_json:
        click.echo(json.dumps({"letters": [_summary(summary, value_bytes) for summary, value_bytes in found]}))
        return
    for summary, value_bytes in found:
        click.echo(_line(summary, value_bytes))
    click.echo(f"{len(found)} dead letters" if len(found) < limit else f"the newest {limit}; --limit asks for more", err=True)


@dlq.command(epilog=SHOW_EPILOG)
@click.argument("coordinates", type=CoordinatesType())
@_json
@click.option("--raw", is_flag=True, help="Print the record's value and nothing else.")
def show(*, coordinates: Coordinates, as_json: bool, raw: bool) -> None:
    """Show one dead letter whole: where it was, what is wrong, its headers, its fields as far as they read, its bytes.

    The JSON is one line, which `replay --repaired` takes back. Exits with 1 where there is no such letter.
    """
    if as_json and raw:
        raise click.UsageError("--json and --raw exclude each other")
    with _desk() as desk:
        [(_, letters)] = desk.found([coordinates])
        shown = [json.dumps(desk.json_of(letter)) if as_json else desk.text_of(letter) for letter in letters]
    if not letters:
        click.echo(f"no dead letter is at {coordinates}", err=True)
        raise SystemExit(1)
    if not raw:
        click.echo("\n".join(shown))
        return
    if len(letters) > 1:
        raise click.UsageError(
            f"topics of this name followed each other: {', '.join(str(each.summary.topic_id) for each in letters)}"
        )
    sys.stdout.buffer.write(letters[0].letter.value or b"")


@dlq.command(epilog=REPLAY_EPILOG)
@click.argument("coordinates", type=CoordinatesType(), nargs=-1)
@_topic
@_reason
@_since
@click.option("--all", "everything", is_flag=True, help="Every dead letter there is.")
@click.option("--repaired", type=click.File("r"), help="Letters as `show --json` prints them, one a line, with what was mended.")
@click.option("--dry-run", is_flag=True, help="Only look at them: nothing is written.")
@_json
def replay(  # noqa: PLR0913 - one argument an option
    *,
    coordinates: tuple[Coordinates, ...],
    topic: str,
    reason: str,
    since: int,
    everything: bool,
    repaired: TextIO | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring dead letters into their tables, each once, with the coordinates that they had.

    As they are, where what they waited for has come (a schema, a migration); or as they were mended: change `value_base64`, or
    `event`, in the JSON of `show` and give it with --repaired. A live sink may run at the same time. What is in already stays as
    it is, so a replay that was stopped is run again. Exits with 1 where a letter is still poison; that one stays a dead letter.
    """
    filtered = bool(topic or reason or since or everything)
    if sum((bool(coordinates), filtered, repaired is not None)) != 1:
        raise click.UsageError("say which: coordinates, or filters (--all for every letter), or --repaired FILE")
    report = _Report(as_json=as_json)
    with _desk() as desk:
        for mended in _chosen(desk, coordinates, Choice(topic, reason, since), repaired):
            report.add(mended.refused, mended.warnings)
            for verdicts in desk.replay(mended.repairs, dry_run=dry_run):
                report.add(verdicts, [])
    report.close()
    if report.counts[Result.STILL_POISON]:
        raise SystemExit(1)


class _Report:
    """Says what became of each letter as it is known, and the counts at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.counts: Counter[Result] = Counter()
        self._poison: list[Verdict] = []
        self._warnings: list[str] = []

    def add(self, verdicts: Iterable[Verdict], warnings: Iterable[str]) -> None:
        for warning in warnings:
            self._warnings.append(warning)
            click.echo(f"warning: {warning}", err=True)
        for verdict in verdicts:
            self.counts[verdict.result] += 1
            if verdict.result is Result.STILL_POISON:
                self._poison.append(verdict)
                click.echo(f"{verdict.coordinates} is still poison: {verdict.reason}: {verdict.error}", err=True)
        if sys.stderr.isatty():
            click.echo(f"\r{self.counts.total()} letters", nl=False, err=True)

    def close(self) -> None:
        if sys.stderr.isatty():
            click.echo("", err=True)
        if self._as_json:
            poison = [{**asdict(verdict), "coordinates": str(verdict.coordinates)} for verdict in self._poison]
            counts = {result.value: self.counts[result] for result in Result}
            click.echo(json.dumps({**counts, "warnings": self._warnings, "poison": poison}))
        else:
            counted = [f"{self.counts[result]} {result.replace('_', ' ')}" for result in Result if self.counts[result]]
            click.echo(", ".join(counted) or "no dead letter was chosen")


def _chosen(
    desk: DeadLetterDesk, coordinates: tuple[Coordinates, ...], choice: Choice, repaired: TextIO | None
) -> Iterator[Mended]:
    if coordinates:
        yield desk.named(coordinates)
    elif repaired is None:
        yield from desk.chosen(choice)
    else:
        while lines := list(islice(repaired, PAGE_LETTERS_MAX)):
            yield _mended(desk, lines)


def _mended(desk: DeadLetterDesk, lines: list[str]) -> Mended:
    try:
        return desk.mended([_fields(line) for line in lines if line.strip()])
    except (DatumError, ValueError) as error:
        raise click.UsageError(f"--repaired: {error}") from error


def _fields(line: str) -> dict[str, Any]:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise DatumError(f"not a letter: {line[:80].strip()}")
    return fields


@contextmanager
def _desk() -> Iterator[DeadLetterDesk]:
    """A desk for one command. Whatever a part does not answer ends the command, which may be run again."""
    desk = None
    try:
        desk = DeadLetterDesk(DeskConfig.from_environment(environment()))
        yield desk
    except Retryable as trouble:
        raise PartUnreachable("the installation", "dlq", f"{trouble}; `tailrace doctor` looks at each part") from trouble
    finally:
        if desk is not None:
            desk.close()


def _summary(summary: LetterSummary, value_bytes: int) -> dict[str, Any]:
    return {
        "topic": summary.place.topic,
        "topic_id": str(summary.topic_id),
        "partition": summary.place.partition,
        "offset": summary.offset,
        "kafka_time": time_text(summary.kafka_time_ms),
        "schema_id": summary.schema_id,
        "reason": summary.reason,
        "error": summary.error,
        "buried_at": time_text(summary.buried_at_ms),
        "repaired": summary.repaired,
        "value_bytes": value_bytes,
    }


def _line(summary: LetterSummary, value_bytes: int) -> str:
    state = "repaired" if summary.repaired else summary.reason
    what = f"{summary.coordinates!s:40} {time_text(summary.kafka_time_ms)} {state:15} {value_bytes:>8} bytes"
    return f"{what}  {summary.error.splitlines()[0][:100] if summary.error else ''}"
