"""What the commands do with the topic of experiments: read it, apply plans, put it back. A part's errors are PartUnreachable."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from deploy.experiments.held import Held, held_of, lacking, remarks
from deploy.experiments.yaml_files import load
from deploy.settings import environment
from producers.config import ProducerSettings
from producers.errors import PublishError, SchemaUnavailable
from producers.experiment_log import LogUnavailable, Refused, read_to_end
from producers.main import experiment_log_for, publisher_for
from schemas.environment import Environment
from schemas.errors import ContractError, PartUnreachable
from schemas.events import ExperimentDefinition
from schemas.experiment_files import ExperimentFileError, read_wishes
from schemas.experiment_plans import Plan, PlanRefused
from schemas.experiment_rules import name_of
from serving_worker.config import ExperimentSettings
from serving_worker.experiments.snapshot_file import decode_body, split

READ_TIMEOUT_S = 15.0
STEP_TIMEOUT_S = 15.0


class ChangedMeanwhile(Exception):  # noqa: N818 - says what is the case
    """What would be applied is not what was planned: somebody else has changed experiments."""


@dataclass(frozen=True, slots=True)
class Made:
    """A plan, and what it was made on."""

    plan: Plan
    held: Held


Planner = Callable[[Held], Plan]


def wishes_of(paths: Sequence[Path]) -> list[ExperimentDefinition]:
    """The wishes of all files. Raises ExperimentFileError, with the problems of all of them."""
    wishes: list[ExperimentDefinition] = []
    problems: list[str] = []
    for path in paths:
        try:
            wishes.extend(read_wishes(load(path), str(path)))
        except ExperimentFileError as error:
            problems.extend(error.problems if len(paths) == 1 else (f"{path}: {problem}" for problem in error.problems))
    if problems:
        raise ExperimentFileError(", ".join(map(str, paths)), tuple(problems))
    return wishes


def settings_here() -> ProducerSettings:
    """Of the installation that the environment names, or of the local stack that runs. Raises ConfigurationError."""
    return ProducerSettings.from_environment(environment())


def read_here() -> Held:
    """Raises ConfigurationError and PartUnreachable."""
    return read(settings_here())


def tell(held: Held) -> None:
    """What is wrong with the topic, on stderr."""
    for remark in remarks(held):
        click.echo(remark, err=True)


def read(settings: ProducerSettings) -> Held:
    """Raises PartUnreachable."""
    here = _revisions_here()
    return held_of(_found(settings), here)


def apply(settings: ProducerSettings, make_plan: Planner, expected_hash: str | None = None) -> Made:
    """Make the plan once nobody else can change the topic, publish it, and return it.

    Raises ChangedMeanwhile where it is not the one that is expected, Overtaken, PlanRefused and PartUnreachable.
    """
    made: list[Made] = []

    def choose() -> Sequence[ExperimentDefinition]:
        held = read(settings)
        plan = make_plan(held)
        if expected_hash not in {None, plan.plan_hash}:
            raise ChangedMeanwhile("the experiments have changed since this was planned; nothing was published. Plan again")
        made.append(Made(plan, held))
        return plan.revisions()

    _publish(settings, choose)
    return made[0]


def restore(settings: ProducerSettings, snapshot: Path) -> Sequence[ExperimentDefinition]:
    """Publish the revisions of a host's copy that the topic has not, as they are, and return them.

    Raises PlanRefused where workers would refuse them beside what the topic has by now, Overtaken, PartUnreachable, and OSError
    and ContractError where the copy cannot be read.
    """
    copied = _revisions_of(snapshot)

    def choose() -> Sequence[ExperimentDefinition]:
        found = _found(settings)
        lost = lacking(copied, found)
        if refused := lacking(lost, held_of([*found, *lost]).revisions):
            beside = "workers would refuse it beside what the topic has by now"
            raise PlanRefused(tuple(f"{name_of(each)}: {beside}" for each in refused))
        return lost

    return _publish(settings, choose)


def _revisions_here() -> Sequence[ExperimentDefinition]:
    """Of the copy that this host's workers serve, if the environment names one."""
    path = ExperimentSettings.read(Environment(environment())).snapshot
    try:
        return () if path is None else _revisions_of(path)
    except FileNotFoundError:
        return ()
    except (OSError, ContractError) as error:
        click.echo(f"{path}: {error}; whether the topic has all that is in it is not known", err=True)
        return ()


def _revisions_of(snapshot: Path) -> Sequence[ExperimentDefinition]:
    return decode_body(split(snapshot.read_bytes())[1]).revisions


def _found(settings: ProducerSettings) -> Sequence[ExperimentDefinition | Refused]:
    log = experiment_log_for(settings)
    try:
        with _reachable(settings):
            return read_to_end(log, READ_TIMEOUT_S)
    finally:
        log.close()


def _publish(settings: ProducerSettings, choose: Callable[[], Sequence[ExperimentDefinition]]) -> Sequence[ExperimentDefinition]:
    publisher = publisher_for(settings)
    try:
        with _reachable(settings):
            return publisher.publish(choose, STEP_TIMEOUT_S)
    finally:
        publisher.close()


@contextmanager
def _reachable(settings: ProducerSettings) -> Iterator[None]:
    try:
        yield
    except SchemaUnavailable as error:
        raise PartUnreachable("the schema of experiments", settings.registry_url, str(error)) from error
    except (LogUnavailable, PublishError) as error:
        raise PartUnreachable("the topic of experiments", settings.kafka_bootstrap, str(error)) from error
