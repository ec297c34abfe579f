"""`tailrace experiments`: definitions into the compacted topic."""

import json
from pathlib import Path

import click

from deploy.settings import environment
from producers.config import ProducerSettings
from producers.errors import PublishError, SchemaUnavailable
from producers.experiment_publisher import revision_key
from producers.main import publisher_for
from schemas.errors import PartUnreachable
from schemas.experiment_files import ExperimentFileError, parse_experiments

ACKNOWLEDGEMENT_TIMEOUT_S = 15.0

EPILOG = """\b
Examples:
  tailrace experiments publish experiments.json
  tailrace experiments publish experiments.json --json
"""


@click.group()
def experiments() -> None:
    """Publish experiment definitions."""


@experiments.command(epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was published, or the problems, as JSON.")
def publish(*, file: Path, as_json: bool) -> None:
    """Publish the definitions in FILE, one or a list, and wait until the broker has them.

    Exits with 1, and publishes nothing, where a definition breaks a rule: every problem is named.
    """
    settings = ProducerSettings.from_environment(environment())
    try:
        definitions = parse_experiments(file.read_bytes(), str(file))
    except ExperimentFileError as error:
        click.echo(json.dumps({"published": [], "problems": error.problems}) if as_json else str(error), err=not as_json)
        raise SystemExit(1) from error
    publisher = publisher_for(settings)
    try:
        publisher.publish(definitions, ACKNOWLEDGEMENT_TIMEOUT_S)
    except SchemaUnavailable as error:
        raise PartUnreachable("the schema of experiments", settings.registry_url, str(error)) from error
    except PublishError as error:
        raise PartUnreachable("the broker", settings.kafka_bootstrap, str(error)) from error
    finally:
        publisher.close()
    keys = [revision_key(definition) for definition in definitions]
    click.echo(json.dumps({"published": keys, "problems": []}) if as_json else "\n".join(f"published {key}" for key in keys))
