"""What the desk builds on: the topic as hosts' followers take it in, and what of this host's copy it has not. Pure.

The newest revision in the topic may be one that workers refuse, written past the desk. What is built on that they refuse as well:
so a plan is made on what they take, and numbered after all that is there.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from producers.experiment_log import Refused
from schemas.events import ExperimentDefinition, ExperimentId, ExperimentStatus
from schemas.experiment_history import histories_of
from schemas.experiment_plans import Author, Plan, PlanRefused, ending, plan_of
from schemas.experiment_rules import REVISION_MAX, name_of, named_by
from serving_worker.experiments.intake import Intake
from serving_worker.experiments.snapshot_file import Contents

NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Held:
    """What workers take of the topic, and what they refuse."""

    revisions: Sequence[ExperimentDefinition] = ()
    refused: Sequence[Refused] = ()
    left_out: int = 0
    """Refused records, older than those in `refused`, that there was no room for."""
    highest: Mapping[ExperimentId, int] = field(default_factory=dict)
    """The highest revision that a record names, be it refused, by experiment."""
    lost: Sequence[ExperimentDefinition] = ()
    """What this host's copy has, and the topic has not, or has otherwise."""


def held_of(found: Iterable[ExperimentDefinition | Refused], here: Sequence[ExperimentDefinition] = ()) -> Held:
    """Of all that the topic holds, in its order. `here` was read before: the revisions of this host's copy."""
    records, intake = list(found), Intake(Contents())
    intake.take(records)
    contents = intake.contents()
    return Held(contents.revisions, contents.refused, contents.left_out, _highest(records), lacking(here, records))


def lacking(
    revisions: Iterable[ExperimentDefinition], found: Iterable[ExperimentDefinition | Refused]
) -> tuple[ExperimentDefinition, ...]:
    """Those that are not among what was found, as they are."""
    there: defaultdict[str, list[ExperimentDefinition]] = defaultdict(list)
    for each in found:
        if not isinstance(each, Refused):
            there[name_of(each)].append(each)
    return tuple(each for each in revisions if each not in there[name_of(each)])


def stopped(experiment_id: ExperimentId, held: Held, author: Author) -> Plan:
    """The plan that it ends, at once. Raises PlanRefused."""
    refuse_lost(held, {experiment_id})
    history = histories_of(held.revisions).get(experiment_id)
    if not history or history[-1].status is ExperimentStatus.ENDED:
        raise PlanRefused((f"{experiment_id}: {'has ended' if history else 'there is no such experiment'}",))
    return plan_of([ending(history[-1])], held.revisions, author, highest=held.highest)


def refuse_lost(held: Held, wanted: Collection[ExperimentId]) -> None:
    """Raises PlanRefused where workers have revisions of what is wanted that the topic has not: they refuse what is built now."""
    if lost := [each for each in held.lost if each.experiment_id in wanted]:
        raise PlanRefused((_told(lost),))


def remarks(held: Held) -> Iterator[str]:
    """What is wrong with the topic, for people. A list or a plan stands without it."""
    for each in held.refused:
        named = each.key if each.where == each.key else f"{each.where}, key {each.key!r}"
        yield f"workers refuse {named}: {each.problem}"
    if held.left_out:
        yield f"workers refuse {held.left_out} more before them"
    if held.lost:
        yield _told(held.lost)


def document(held: Held) -> dict[str, object]:
    """The same for machines."""
    refused = [dataclasses.asdict(each) for each in held.refused]
    return {"refused": refused, "refused_before": held.left_out, "lost": [name_of(each) for each in held.lost]}


def _told(lost: Sequence[ExperimentDefinition]) -> str:
    more = f" and {len(lost) - NAMES_SHOWN} more" if len(lost) > NAMES_SHOWN else ""
    names = ", ".join(name_of(each) for each in lost[:NAMES_SHOWN])
    return f"the topic has lost {names}{more}, which this host's workers have; `tailrace experiments restore` puts it back"


def _highest(records: Iterable[ExperimentDefinition | Refused]) -> dict[ExperimentId, int]:
    """The last number there is counts for nobody: none could come after it."""
    highest: dict[ExperimentId, int] = {}
    for each in records:
        named = named_by(each.key if isinstance(each, Refused) else name_of(each))
        if named is not None and named[1] < REVISION_MAX:
            highest[named[0]] = max(named[1], highest.get(named[0], 0))
    return highest
