"""`tailrace replay plan`: from what a person asks to a manifest."""

import json
import time
from typing import TextIO

import click

from deploy.replaying import office
from schemas.tables import TABLE_OF_RECORD
from schemas.topics import TOPICS
from stream_processors.replay.bounds import bound_of
from stream_processors.replay.derivation import parse
from stream_processors.replay.derived import Derived
from stream_processors.replay.errors import WrongQuestion
from stream_processors.replay.manifest import Asked
from stream_processors.replay.office import ReplayOffice
from stream_processors.replay.plan import PlanSource, Question
from stream_processors.replay.words import plan_text

_TOPICS = {topic.name: topic for topic in TOPICS if topic.record in TABLE_OF_RECORD}

EPILOG = """\b
Examples:
  tailrace replay plan --topic interactions --from 2026-01-31T06:00 --to 2026-01-31T12:00
  tailrace replay plan --topic recommendations --from 7d
  tailrace replay plan --topic interactions --from 0:1500,2:90 --to 0:2500,2:1000 --json
  tailrace replay plan --topic interactions --from beginning --select "lower(surface) AS surface"
  tailrace replay plan --topic interactions --from 90d --source auto --derive clicks_by_item.sql
  tailrace replay plan --topic interactions --from 24h --transform repairs:right_the_kind
"""


@click.command(epilog=EPILOG)
@click.option("--topic", required=True, type=click.Choice(list(_TOPICS)), help="By its name without prefix.")
@click.option(
    "--from", "first", required=True, metavar="WHERE", help="A time (UTC), an age (24h), offsets (0:1500,2:90), beginning."
)
@click.option("--to", "end", default="end", show_default=True, metavar="WHERE", help="The same; what comes there is left out.")
@click.option("--table", help="A table with the live table's columns to compare with and swap into; the topic's own by default.")
@click.option("--select", help="Columns computed by the warehouse: EXPRESSION AS COLUMN, …; the others stay as they are.")
@click.option("--transform", metavar="MODULE:FUNCTION", help="A Python function from event to event.")
@click.option(
    "--derive", type=click.File("r"), help="Fill the derived table that this file defines; see `tailrace derive apply`."
)
@click.option(
    "--source",
    type=click.Choice([source.value for source in PlanSource]),
    default=PlanSource.KAFKA.value,
    show_default=True,
    help="auto takes from the archive (TAILRACE_ARCHIVE_URL) what Kafka has let go of.",
)
@click.option("--allow-missing", is_flag=True, help="Leave out what cannot be had any more.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def plan(  # noqa: PLR0913 - one argument an option
    *,
    topic: str,
    first: str,
    end: str,
    table: str | None,
    select: str | None,
    transform: str | None,
    derive: TextIO | None,
    source: str,
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Say what replaying a stretch of a topic would do, and keep that plan under a run's name.

    Times are Kafka's times of arrival, and become offsets; the ends are fixed now. Nothing but the plan is written. Exits with 1
    where offsets that are asked for cannot be had any more (they are named), or there is nothing in the stretch.
    """
    now_ms = time.time_ns() // 1_000_000
    with office() as opened:
        question = Question(
            topic=_TOPICS[topic],
            first=bound_of(first, "--from", now_ms),
            end=bound_of(end, "--to", now_ms),
            asked=Asked(first, end, source, allow_missing),
            table=table,
            select=select,
            transform=transform,
            derive=None if derive is None else _definition(opened, derive, table or TABLE_OF_RECORD[_TOPICS[topic].record or ""]),
        )
        manifest = opened.plan(question, now_ms)
    click.echo(json.dumps(manifest.as_fields(), sort_keys=True) if as_json else plan_text(manifest))


def _definition(opened: ReplayOffice, file: TextIO, table: str) -> str:
    """The text of a definition that the warehouse can take. Raises WrongQuestion where it cannot, or is of another table."""
    derivation = parse(file.read())
    if derivation.source != table:
        raise WrongQuestion(f"{derivation.table} is derived from {derivation.source}, and the topic goes into {table}")
    Derived(opened.writer, click.echo).columns_of(derivation)
    return derivation.text
