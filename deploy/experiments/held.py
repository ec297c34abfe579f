"""What the desk builds on: the topic as hosts' followers take it in. Pure.

The newest revision in the topic may be one that workers refuse, written past the desk. What is built on that they refuse as well:
so a plan is made on what they take, and numbered after all that is there.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from producers.experiment_log import Refused
from schemas.events import ExperimentDefinition, ExperimentId, ExperimentStatus
from schemas.experiment_history import histories_of
from schemas.experiment_plans import Author, Plan, PlanRefused, ending, plan_of
from schemas.experiment_rules import REVISION_MAX, name_of, named_by
from serving_worker.experiments.intake import Intake
from serving_worker.experiments.snapshot_file import Contents


@dataclass(frozen=True, slots=True)
class Held:
    """What workers take of the topic, and what they refuse."""

    revisions: Sequence[ExperimentDefinition] = ()
    refused: Sequence[Refused] = ()
    left_out: int = 0
    """Refused records, older than those in `refused`, that there was no room for."""
    highest: Mapping[ExperimentId, int] = field(default_factory=dict)
    """The highest revision that a record names, be it refused, by experiment."""


def held_of(found: Iterable[ExperimentDefinition | Refused]) -> Held:
    """Of all that the topic holds, in its order."""
    records, intake = list(found), Intake(Contents())
    intake.take(records)
    contents = intake.contents()
    return Held(contents.revisions, contents.refused, contents.left_out, _highest(records))


def stopped(experiment_id: ExperimentId, held: Held, author: Author) -> Plan:
    """The plan that it ends, at once. Raises PlanRefused."""
    history = histories_of(held.revisions).get(experiment_id)
    if not history or history[-1].status is ExperimentStatus.ENDED:
        raise PlanRefused((f"{experiment_id}: {'has ended' if history else 'there is no such experiment'}",))
    return plan_of([ending(history[-1])], held.revisions, author, highest=held.highest)


def remarks(held: Held) -> Iterator[str]:
    """What is wrong with the topic, for people. A list or a plan stands without it."""
    for each in held.refused:
        named = each.key if each.where == each.key else f"{each.where}, key {each.key!r}"
        yield f"workers refuse {named}: {each.problem}"
    if held.left_out:
        yield f"workers refuse {held.left_out} more before them"


def document(held: Held) -> dict[str, object]:
    """The same for machines."""
    return {"refused": [dataclasses.asdict(each) for each in held.refused], "refused_before": held.left_out}


def _highest(records: Iterable[ExperimentDefinition | Refused]) -> dict[ExperimentId, int]:
    """The last number there is counts for nobody: none could come after it."""
    highest: dict[ExperimentId, int] = {}
    for each in records:
        named = named_by(each.key if isinstance(each, Refused) else name_of(each))
        if named is not None and named[1] < REVISION_MAX:
            highest[named[0]] = max(named[1], highest.get(named[0], 0))
    return highest
