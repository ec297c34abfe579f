"""`tailrace experiments validate | plan | apply | stop`: from wishes to revisions in the topic."""

import getpass
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from deploy.experiments import plan_text
from deploy.experiments.desk import ChangedMeanwhile, Made, Planner, read, settings_here, tell, wishes_of
from deploy.experiments.desk import apply as publish
from deploy.experiments.held import Held, stopped
from deploy.experiments.held import document as document_of
from deploy.experiments.shrinking import planned as plan_on
from producers.config import ProducerSettings
from producers.experiment_publisher import Overtaken
from producers.main import now_us
from schemas.events import ExperimentId
from schemas.experiment_files import ExperimentFileError
from schemas.experiment_plans import Author, Plan, PlanRefused, titles

T = TypeVar("T")

FILE = """\b
A file is YAML (or JSON): one definition or a list, with the fields of ExperimentDefinition. What apply fills in is left
out: revision, changed_by, changed_at, effective_at (or a time that lies ahead), ended_at, plan_hash.
\b
  experiment_id: ranking-2026    # letters A to Z and a to z, digits, and . _ -
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

\b
Buckets that the file no longer names are given up, but for those in which the warehouse knows exposed units: these keep
their arms. Who is exposed while the change is on its way is heard of late, so apply the same file again before others may
own what was given up (the plan says when): their buckets come back.

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
    sound = _refusable(as_json=as_json, make=lambda: _planner(files, None)(Held()))
    _tell({"sound": titles(sound), "problems": []}, [f"sound: {', '.join(titles(sound))}"], as_json=as_json)


@click.command(epilog=APPLY)
@Files
@By
@Json
def plan(files: tuple[Path, ...], by: str | None, *, as_json: bool) -> None:
    """Say what applying FILES would change, on top of what the topic holds. Exits with 1 where it would be refused."""
    made = _refusable(as_json=as_json, make=lambda: _made(settings_here(), _planner(files, by)))
    _show(made, applied=False, as_json=as_json)


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
    settings = settings_here()
    make_plan = _refusable(as_json=as_json, make=lambda: _planner(files, by))
    made = _refusable(as_json=as_json, make=lambda: _made(settings, make_plan))
    if plan_hash is not None and not made.plan.plan_hash.startswith(plan_hash):
        _refuse([f"the plan is {made.plan.plan_hash} now, not {plan_hash}: plan again"], as_json=as_json)
    if made.plan.changes and not dry_run:
        made = _refusable(as_json=as_json, make=lambda: publish(settings, make_plan, made.plan.plan_hash))
    _show(made, applied=not dry_run, as_json=as_json)


@click.command(epilog=STOP)
@click.argument("experiment")
@By
@Json
def stop(experiment: str, by: str | None, *, as_json: bool) -> None:
    """End EXPERIMENT at once: from now on its units get the defaults. Exits with 1 where there is no such experiment that runs.

    An end is final. Its buckets and parameters are free for others after a quarantine, when no worker can know it any more.
    """
    name = _name(by)

    def end(held: Held) -> Plan:
        tell(held)
        return stopped(ExperimentId(experiment), held, Author(name, now_us()))

    settings = settings_here()
    _show(_refusable(as_json=as_json, make=lambda: publish(settings, end)), applied=True, as_json=as_json)


def _planner(files: tuple[Path, ...], by: str | None) -> Planner:
    """Plans are made for the moment in which they are made. Raises ExperimentFileError."""
    wishes, name = wishes_of(files), _name(by)
    return lambda held: plan_on(wishes, held, Author(name, now_us()))


def _made(settings: ProducerSettings, make_plan: Planner) -> Made:
    held = read(settings)
    tell(held)
    return Made(make_plan(held), held)


def _refusable(*, as_json: bool, make: Callable[[], T]) -> T:
    try:
        return make()
    except (ExperimentFileError, PlanRefused) as error:
        _refuse(error.problems, as_json=as_json, text=str(error))
    except (ChangedMeanwhile, Overtaken) as error:
        _refuse([str(error)], as_json=as_json)


def _refuse(problems: Sequence[str], *, as_json: bool, text: str | None = None) -> NoReturn:
    click.echo(
        json.dumps({"changes": [], "problems": list(problems)}) if as_json else text or "\n".join(problems), err=not as_json
    )
    raise SystemExit(1)


def _show(made: Made, *, applied: bool, as_json: bool) -> None:
    document = {**plan_text.document(made.plan, applied=applied), **document_of(made.held)}
    _tell(document, list(plan_text.lines(made.plan, applied=applied)), as_json=as_json)


def _tell(document: object, lines: Sequence[str], *, as_json: bool) -> None:
    click.echo(json.dumps(document) if as_json else "\n".join(lines))


def _name(by: str | None) -> str:
    try:
        return by or getpass.getuser()
    except (KeyError, OSError) as error:
        raise click.UsageError("nobody is logged in at this terminal: say who with --by") from error
