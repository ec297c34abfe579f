"""`tailrace experiments list | show`: what the topic holds."""

import dataclasses
import json
from datetime import UTC, datetime

import click

from deploy.experiments.desk import read_here, tell
from deploy.experiments.held import document
from schemas.events import ExperimentDefinition, ExperimentId, Micros
from schemas.experiment_history import histories_of
from schemas.experiment_plans import shown

LIST = """\b
Examples:
  tailrace experiments list
  tailrace experiments list --json
"""
SHOW = """\b
Examples:
  tailrace experiments show ranking-2026
  tailrace experiments show ranking-2026 --json
"""
_NOT_SHOWN = frozenset({"experiment_id", "revision", "changed_at", "effective_at", "ended_at"})


@click.command(name="list", epilog=LIST)
@click.option("--json", "as_json", is_flag=True, help="Print the newest revisions, and records that workers refuse, as JSON.")
def list_all(*, as_json: bool) -> None:
    """List the experiments, each as it stands now: its newest revision that workers take."""
    held = read_here()
    newest = [history[-1] for history in histories_of(held.revisions).values()]
    if as_json:
        click.echo(json.dumps({"experiments": [dataclasses.asdict(each) for each in newest], **document(held)}))
        return
    for each in newest:
        where = f"  {each.layer_id} {shown(each.bucket_ranges)}" if each.layer_id else ""
        click.echo(f"{each.experiment_id}:{each.revision}  {each.kind}  {each.status}  {', '.join(each.surfaces)}{where}")
    tell(held)


@click.command(epilog=SHOW)
@click.argument("experiment")
@click.option("--json", "as_json", is_flag=True, help="Print all revisions as JSON, the oldest first.")
def show(experiment: str, *, as_json: bool) -> None:
    """Show EXPERIMENT as it stands, and who changed it when. Exits with 1 where there is no such experiment."""
    held = read_here()
    tell(held)
    history = histories_of(held.revisions).get(ExperimentId(experiment))
    if history is None:
        raise click.ClickException(f"{experiment}: there is no such experiment")
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in history]))
        return
    click.echo(f"{experiment}:{history[-1].revision}")
    for field in dataclasses.fields(ExperimentDefinition):
        if field.name not in _NOT_SHOWN:
            click.echo(f"  {field.name}: {shown(getattr(history[-1], field.name))}")
    for each in history:
        click.echo(
            f"  {each.revision}: {each.status} from {_time(each.effective_at)}, by {each.changed_by} at {_time(each.changed_at)}"
        )


def _time(at: Micros) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(timespec="seconds")
