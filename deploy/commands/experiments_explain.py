"""`tailrace experiments explain`: which arms a unit is in, step by step."""

import dataclasses
import json
from pathlib import Path

import click

from deploy.experiments.desk import read_here
from deploy.experiments.yaml_files import load
from producers.main import now_us
from schemas.events import ExperimentId, Micros, UnitId
from schemas.experiment_files import ExperimentFileError, read_wishes
from schemas.experiment_history import SNAPSHOT_AGE_S_MAX
from schemas.experiment_plans import Author, PlanRefused, plan_of
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.definitions import Snapshot, Validity, snapshot_of
from serving_worker.experiments.explanation import Explanation
from serving_worker.experiments.explanation import explain as steps_of
from serving_worker.experiments.kill_file import read_killed
from serving_worker.experiments.snapshot_file import decode_body, split

EPILOG = """\b
Examples:
  tailrace experiments explain user-42 --surface home
  tailrace experiments explain user-42 --surface home --context country=de --json
  tailrace experiments explain user-42 --surface home --snapshot /var/lib/tailrace/experiments
  tailrace experiments explain user-42 --surface home --file ranking.yaml          before it is applied
  tailrace experiments explain user-42 --surface home --force ranking-2026=sampling
"""
A_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("unit")
@click.option("--surface", required=True, help="Where the recommendation would show.")
@click.option("--unit-type", default="user", show_default=True, help="What the unit is.")
@click.option("--context", "context", multiple=True, metavar="KEY=VALUE", help="What the request says of itself; repeatable.")
@click.option("--force", "forced", multiple=True, metavar="EXPERIMENT=ARM", help="As requests of testers do; repeatable.")
@click.option("--file", "file", type=A_FILE, help="Ask a file of experiments instead of the topic.")
@click.option("--snapshot", "snapshot", type=A_FILE, help="Ask a host's snapshot, and the kill file beside it.")
@click.option("--default-policy", default="popularity", show_default=True, help="What answers where no arm says otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print the steps and the decision as JSON.")
def explain(  # noqa: PLR0913 - one argument an option
    unit: str,
    *,
    surface: str,
    unit_type: str,
    context: tuple[str, ...],
    forced: tuple[str, ...],
    file: Path | None,
    snapshot: Path | None,
    default_policy: str,
    as_json: bool,
) -> None:
    """Say which arms UNIT is in now, and show each step: hashes, buckets, who holds them, eligibility, arms, parameters."""
    arms = {ExperimentId(name): arm for name, arm in _pairs(forced).items()}
    asker = Asker(unit_type, UnitId(unit), surface, _pairs(context), arms)
    known = _definitions(file) if snapshot is None else _as_workers(snapshot)
    explained = steps_of(known, asker, now_us(), default_policy)
    click.echo(json.dumps(dataclasses.asdict(explained)) if as_json else _text(explained))


def _as_workers(path: Path) -> Snapshot:
    """What workers that read the snapshot serve: killed experiments, and its age, count."""
    head, body = split(path.read_bytes())
    killed = read_killed(path.with_name(f"{path.name}.kill"))
    validity = Validity(Micros(head.as_of), SNAPSHOT_AGE_S_MAX * 1_000_000)
    return snapshot_of(decode_body(body).revisions, killed=killed, validity=validity)


def _definitions(file: Path | None) -> Snapshot:
    if file is None:
        return snapshot_of(read_here().revisions)
    try:
        return snapshot_of(plan_of(read_wishes(load(file), str(file)), [], Author("explain", now_us())).revisions())
    except (ExperimentFileError, PlanRefused) as error:
        raise click.ClickException(str(error)) from error


def _text(explained: Explanation) -> str:
    decision = explained.decision
    lines = [line for step in explained.steps for line in (f"{step.of}: {step.reason}", *(f"  {fact}" for fact in step.facts))]
    parameters = " ".join(f"{name}={value}" for name, value in sorted(decision.parameters.items())) or "none"
    traffic = ["its traffic is forced: no verdict counts it"] if decision.forced else []
    return "\n".join([*lines, f"parameters: {parameters}", f"policy: {decision.policy_id}", *traffic])


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    wrong = [pair for pair in given if pair.find("=") < 1]
    if wrong:
        raise click.UsageError(f"{wrong[0]!r} is not of the form KEY=VALUE")
    return {key: value for key, _, value in (pair.partition("=") for pair in given)}
