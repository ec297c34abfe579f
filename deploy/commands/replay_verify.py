"""`tailrace replay verify`: whether a filled run is what the log says, and how live differs from it."""

import json

import click

from deploy.replaying import known, office
from stream_processors.replay.runs import State
from stream_processors.replay.verify_words import verification_fields, verification_text

EPILOG = """\b
Examples:
  tailrace replay verify r0131-7f3a9c
  tailrace replay verify r0131-7f3a9c --json
"""


@click.command(epilog=EPILOG)
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def verify(*, run_id: str, as_json: bool) -> None:
    """Say whether every record of a filled run is in once, and as the log says; and how the live table differs from it.

    Offsets are compared with the plan and with Kafka, a sample is decoded by another reader, and where nothing was computed on
    the way all rows are compared with live ones at the same coordinates. Exits with 1 where the run is not sound, or live differs
    from it: the JSON's `sound` and `equal` tell which.
    """
    with office() as opened:
        found = opened.verify(known(opened, run_id))
    click.echo(json.dumps(verification_fields(found)) if as_json else verification_text(found))
    if found.state is not State.VERIFIED:
        raise SystemExit(1)
