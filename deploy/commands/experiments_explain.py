"""`tailrace experiments explain`: which arms a unit is in, step by step."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from deploy.experiments.desk import read_here, tell
from deploy.experiments.yaml_files import load
from deploy.settings import environment
from producers.main import now_us
from schemas.environment import Environment
from schemas.events import ExperimentId, UnitId
from schemas.experiment_files import UNFILLED, ExperimentFileError, read_wishes
from schemas.experiment_plans import Author, PlanRefused, plan_of
from serving_worker.config import ExperimentSettings, default_policy
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.definitions import Snapshot, snapshot_of
from serving_worker.experiments.explanation import Explanation
from serving_worker.experiments.explanation import explain as steps_of
from serving_worker.experiments.feed import experiments_of

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
@click.option("--file", "file", type=A_FILE, help="Ask a file instead of the topic: wishes, or the workers' own.")
@click.option("--snapshot", "snapshot", type=A_FILE, help="Ask a host's snapshot, as its workers do.")
@click.option("--default-policy", "policy_option", help="What no arm decides.  [default: TAILRACE_DEFAULT_POLICY, or popularity]")
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
    policy_option: str | None,
    as_json: bool,
) -> None:
    """Say which arms UNIT is in now, and show each step: hashes, buckets, who holds them, eligibility, arms, parameters.

    A snapshot, and a file of complete definitions, are read as workers read them: what the kill file names
    (TAILRACE_EXPERIMENTS_KILL_FILE, or the one beside it) is killed, and TAILRACE_EXPERIMENTS_AGE_S_MAX counts.
    """
    arms = {ExperimentId(name): arm for name, arm in _pairs(forced).items()}
    asker = Asker(unit_type, UnitId(unit), surface, _pairs(context), arms)
    read = Environment(environment())
    here, policy = ExperimentSettings.read(read), policy_option or default_policy(read)
    read.refuse_problems()
    known = _definitions(file, here) if snapshot is None else _as_workers(replace(here, file=None, snapshot=snapshot))
    explained = steps_of(known, asker, now_us(), policy)
    click.echo(json.dumps(dataclasses.asdict(explained)) if as_json else _text(explained))


def _as_workers(settings: ExperimentSettings) -> Snapshot:
    experiments = experiments_of(settings)
    experiments.reload()
    found = experiments.snapshot()
    if found is None:
        raise click.ClickException(f"workers have no experiments from it: {experiments.problem}")
    if experiments.problem:
        click.echo(f"workers leave out: {experiments.problem}", err=True)
    return found


def _definitions(file: Path | None, here: ExperimentSettings) -> Snapshot:
    if file is None:
        held = read_here()
        tell(held)
        return snapshot_of(held.revisions)
    try:
        document = load(file)
        if _is_complete(document):
            return _as_workers(replace(here, file=file, snapshot=None))
        return snapshot_of(plan_of(read_wishes(document, str(file)), [], Author("explain", now_us())).revisions())
    except (ExperimentFileError, PlanRefused) as error:
        raise click.ClickException(str(error)) from error


def _is_complete(document: object) -> bool:
    """Whether nothing is left to be filled in when it is applied."""
    values = document if isinstance(document, list) else [document]
    return all(isinstance(value, Mapping) and UNFILLED.keys() <= value.keys() for value in values)


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
