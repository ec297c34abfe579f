"""`tailrace experiments restore`: a topic that was lost, from a host's snapshot."""

import json
from pathlib import Path

import click

from deploy.experiments.desk import restore as put_back
from deploy.experiments.desk import settings_here
from producers.experiment_publisher import Overtaken
from schemas.errors import ConfigurationError
from schemas.experiment_plans import PlanRefused
from schemas.experiment_rules import name_of

EPILOG = """\b
Examples:
  tailrace up                                                        the topic is made anew
  tailrace experiments restore /var/lib/tailrace/experiments         before anything is applied
"""


@click.command(epilog=EPILOG)
@click.argument("snapshot", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was put back as JSON.")
def restore(snapshot: Path, *, as_json: bool) -> None:
    """Publish all revisions that SNAPSHOT, a host's copy of the experiments, has and the topic has not: as they were.

    For a topic that was lost. Exits with 1, and publishes nothing, where what the topic has by now stands against them: then
    delete it, let `tailrace up` make it anew, and restore before anything is applied.
    """
    try:
        names = [name_of(each) for each in put_back(settings_here(), snapshot)]
    except OSError as error:
        raise ConfigurationError((f"{snapshot}: {error.strerror or error}",)) from error
    except (PlanRefused, Overtaken) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps({"restored": names}) if as_json else f"restored: {', '.join(names) or 'nothing was lost'}")
