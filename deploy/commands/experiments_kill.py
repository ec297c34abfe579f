"""`tailrace experiments kill`: what stops an experiment on this host where Kafka cannot."""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from deploy.settings import environment
from producers.main import now_us
from schemas.environment import Environment
from schemas.errors import ConfigurationError
from schemas.events import ExperimentId
from serving_worker.config import ExperimentSettings
from serving_worker.experiments.kill_file import kill as write_kill
from serving_worker.experiments.kill_file import lift as write_lift
from serving_worker.experiments.kill_file import read_killed

EPILOG = """\b
Examples:
  TAILRACE_EXPERIMENTS_SNAPSHOT=/var/lib/tailrace/experiments tailrace experiments kill ranking-2026
  tailrace experiments kill ranking-2026 --file /var/lib/tailrace/experiments.kill
  tailrace experiments kill ranking-2026 --lift

\b
The file is TAILRACE_EXPERIMENTS_KILL_FILE, or stands beside TAILRACE_EXPERIMENTS_SNAPSHOT or _FILE, named .kill.
"""


@click.command(epilog=EPILOG)
@click.argument("experiment")
@click.option("--file", "named", type=click.Path(dir_okay=False, path_type=Path), help="The kill file of this host's workers.")
@click.option("--lift", is_flag=True, help="Let it run again.")
@click.option("--json", "as_json", is_flag=True, help="Print the file and what it names as JSON.")
def kill(experiment: str, named: Path | None, *, lift: bool, as_json: bool) -> None:
    """Stop EXPERIMENT in the workers of this host, whatever the topic says, until it is lifted. Needs neither Kafka nor a worker.

    Workers look at the file twice a second, and before they serve anything. Where Kafka is up, `stop` ends it everywhere.
    Exits with 1 where --lift finds nothing to lift.
    """
    path = named or _kill_file()
    try:
        changed = write_lift(path, ExperimentId(experiment)) if lift else write_kill(path, ExperimentId(experiment), _remark())
        killed = sorted(read_killed(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError((f"{path}: {error}",)) from error
    click.echo(
        json.dumps({"file": str(path), "killed": killed}) if as_json else f"{path}: {', '.join(killed) or 'nothing'} is killed"
    )
    if lift and not changed:
        raise SystemExit(1)


def _kill_file() -> Path:
    read = Environment(environment())
    source = ExperimentSettings.read(read).killing()
    read.refuse_problems()
    if source is None:
        raise click.UsageError("which file? Name it with --file, or the workers' TAILRACE_EXPERIMENTS_SNAPSHOT")
    return source


def _remark() -> str:
    now = datetime.fromtimestamp(now_us() / 1_000_000, UTC).isoformat(timespec="seconds")
    try:
        return f"{now} by {getpass.getuser()}"
    except (KeyError, OSError):
        return now
