"""`tailrace experiments validate | plan | apply | stop`: from wishes to revisions in the topic."""

import dataclasses
import getpass
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from deploy.experiments.desk import ChangedMeanwhile, planner, read, wishes_of
from deploy.experiments.desk import apply as publish
from deploy.settings import environment
from producers.config import ProducerSettings
from producers.experiment_publisher import Overtaken
from producers.main import now_us
from schemas.events import ExperimentDefinition, ExperimentId, ExperimentStatus
from schemas.experiment_files import ExperimentFileError
from schemas.experiment_history import histories_of
from schemas.experiment_plans import Author, Plan, PlanRefused, ending, titles

T = TypeVar("T")
Planner = Callable[[Sequence[ExperimentDefinition]], Plan]

FILE = """\b
A file is YAML (or JSON): one definition or a list, with the fields of ExperimentDefinition. What apply fills in is left
out: revision, changed_by, changed_at, effective_at (or a time that lies ahead), ended_at, plan_hash.
\b
  experiment_id: ranking-2026
  kind: ab                       # ab, aa (arms alike), holdback, observed
  owner: ranking
  hypothesis: Sampling earns more clicks than the list.
  status: running                # draft, running, paused, ended
  unit_type: user
  surfaces: [home]
  layer_id: ranking
  layer_salt: ranking-1
  arm_salt: ranking-2026
  bucket_ranges: [{first: 0, end: 10000}]    # of 1000000
  arms:
    - {name: control, weight: 1}
    - {name: sampling, weight: 1, parameters: {policy: plackett_luce}}
"""
VALIDATE = (
    """\b
Examples:
  tailrace experiments validate ranking.yaml layout.yaml

"""
    + FILE
)
APPLY = (
    """\b
Examples:
  tailrace experiments plan ranking.yaml
  tailrace experiments apply ranking.yaml --dry-run          the same
  tailrace experiments apply ranking.yaml
  tailrace experiments apply ranking.yaml --plan 4f0c…       only if that is still the plan

"""
    + FILE
)
STOP = """\b
Examples:
  tailrace experiments stop ranking-2026
  tailrace experiments stop ranking-2026 --by alice --json

\b
Where Kafka cannot be reached: tailrace experiments kill, on each host.
"""

Files = click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
Json = click.option("--json", "as_json", is_flag=True, help="Print the result, or the problems, as JSON.")
By = click.option("--by", metavar="NAME", help="Who changes it.  [default: the user at this terminal]")


@click.command(epilog=VALIDATE)
@Files
@Json
def validate(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Say what is wrong with FILES, by themselves: types, rules, salts, and what they would own together.

    Exits with 1 where something is wrong. What else the topic holds is not asked: `plan` does that.
    """
    plan = _refusable(as_json=as_json, make=lambda: planner(wishes_of(files), _author(None))([]))
    _tell({"sound": titles(plan), "problems": []}, [f"{len(plan.changes)} definitions are sound"], as_json=as_json)


@click.command(epilog=APPLY)
@Files
@By
@Json
def plan(files: tuple[Path, ...], by: str | None, *, as_json: bool) -> None:
    """Say what applying FILES would change, on top of what the topic holds. Exits with 1 where it would be refused."""
    _show(_planned(_settings(), lambda: wishes_of(files), by, as_json=as_json)[0], applied=False, as_json=as_json)


@click.command(epilog=APPLY)
@Files
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--plan", "plan_hash", metavar="HASH", help="Only if the plan is the one with this hash (its first characters do).")
@By
@Json
def apply(files: tuple[Path, ...], plan_hash: str | None, by: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Publish the revisions that FILES ask for, all of them or none, and wait until the brokers have them.

    Exits with 1, and publishes nothing, where a rule is broken, where somebody else has changed an experiment meanwhile, or is
    applying at the same time and began later.
    """
    settings = _settings()
    planned, again = _planned(settings, lambda: wishes_of(files), by, as_json=as_json)
    if plan_hash is not None and not planned.plan_hash.startswith(plan_hash):
        _refuse([f"the plan is {planned.plan_hash} now, not {plan_hash}: plan again"], as_json=as_json)
    if not dry_run:
        _publish(settings, planned, again, as_json=as_json)
    _show(planned, applied=not dry_run, as_json=as_json)


@click.command(epilog=STOP)
@click.argument("experiment")
@By
@Json
def stop(experiment: str, by: str | None, *, as_json: bool) -> None:
    """End EXPERIMENT at once: from now on its units get the defaults. Exits with 1 where there is no such experiment that runs.

    An end is final. Its buckets and parameters are free for others after a quarantine, when no worker can know it any more.
    """
    settings = _settings()

    def wishes() -> list[ExperimentDefinition]:
        history = histories_of(read(settings).revisions).get(ExperimentId(experiment))
        if not history or history[-1].status is ExperimentStatus.ENDED:
            _refuse([f"{experiment}: {'has ended' if history else 'there is no such experiment'}"], as_json=as_json)
        return [ending(history[-1])]

    planned, again = _planned(settings, wishes, by, as_json=as_json)
    _publish(settings, planned, again, as_json=as_json)
    _show(planned, applied=True, as_json=as_json)


def _planned(
    settings: ProducerSettings, wishes: Callable[[], list[ExperimentDefinition]], by: str | None, *, as_json: bool
) -> tuple[Plan, Planner]:
    """The plan as of now, and the way to make it again."""
    again = planner(_refusable(as_json=as_json, make=wishes), _author(by))
    held = read(settings)
    for refused in held.refused:
        click.echo(f"not an experiment: {refused.where}, key {refused.key!r}: {refused.problem}", err=True)
    return _refusable(as_json=as_json, make=lambda: again(held.revisions)), again


def _publish(settings: ProducerSettings, planned: Plan, again: Planner, *, as_json: bool) -> None:
    if not planned.changes:
        return
    try:
        _refusable(as_json=as_json, make=lambda: publish(settings, planned, again))
    except (ChangedMeanwhile, Overtaken) as error:
        _refuse([str(error)], as_json=as_json)


def _refusable(*, as_json: bool, make: Callable[[], T]) -> T:
    try:
        return make()
    except (ExperimentFileError, PlanRefused) as error:
        _refuse(error.problems, as_json=as_json, text=str(error))


def _refuse(problems: Sequence[str], *, as_json: bool, text: str | None = None) -> NoReturn:
    click.echo(
        json.dumps({"changes": [], "problems": list(problems)}) if as_json else text or "\n".join(problems), err=not as_json
    )
    raise SystemExit(1)


def _show(plan: Plan, *, applied: bool, as_json: bool) -> None:
    changes = [
        {
            "experiment_id": change.revision.experiment_id,
            "base": None if change.base is None else change.base.revision,
            "differences": change.differences,
            "revision": dataclasses.asdict(change.revision),
        }
        for change in plan.changes
    ]
    document = {"applied": applied, "plan_hash": plan.plan_hash, "changes": changes, "unchanged": plan.unchanged, "problems": []}
    _tell(document, _lines(plan, applied=applied), as_json=as_json)


def _lines(plan: Plan, *, applied: bool) -> list[str]:
    lines = [f"{experiment_id}: unchanged" for experiment_id in plan.unchanged]
    for change in plan.changes:
        on = "" if change.base is None else f", on {change.base.revision}"
        lines.append(
            f"{'published' if applied else 'would publish'} {change.revision.experiment_id}:{change.revision.revision}{on}"
        )
        lines.extend(f"  {difference}" for difference in change.differences)
    return [*lines, f"plan {plan.plan_hash}" if plan.changes else "nothing to change"]


def _tell(document: object, lines: Sequence[str], *, as_json: bool) -> None:
    click.echo(json.dumps(document) if as_json else "\n".join(lines))


def _settings() -> ProducerSettings:
    return ProducerSettings.from_environment(environment())


def _author(by: str | None) -> Author:
    try:
        return Author(by or getpass.getuser(), now_us())
    except (KeyError, OSError) as error:
        raise click.UsageError("nobody is logged in at this terminal: say who with --by") from error
