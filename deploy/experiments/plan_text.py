"""A plan as people and as machines read it. Pure."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime

from schemas.events import ExperimentDefinition
from schemas.experiment_history import free_at
from schemas.experiment_plans import Change, Plan
from schemas.experiment_rules import RANGES_MAX, name_of
from schemas.experiment_shrinks import Exposed, Settlement


def document(plan: Plan, *, applied: bool) -> dict[str, object]:
    return {
        "applied": applied,
        "plan_hash": plan.plan_hash,
        "changes": [_change(change) for change in plan.changes],
        "unchanged": plan.unchanged,
        "settlements": {experiment_id: _settlement(each) for experiment_id, each in plan.settlements.items()},
        "problems": [],
    }


def lines(plan: Plan, *, applied: bool) -> Iterator[str]:
    for experiment_id in plan.unchanged:
        yield f"{experiment_id}: unchanged"
        if settlement := plan.settlements.get(experiment_id):
            yield from (f"  {line}" for line in _kept(settlement))
    for change in plan.changes:
        revision, on = change.revision, "" if change.base is None else f", on {change.base.revision}"
        yield f"{'published' if applied else 'would publish'} {name_of(revision)}{on}"
        yield from (f"  {difference}" for difference in change.differences)
        if settlement := plan.settlements.get(revision.experiment_id):
            yield from (f"  {line}" for line in (*_kept(settlement), *_given_up(settlement, revision)))
    yield f"plan {plan.plan_hash}" if plan.changes else "nothing to change"


def _change(change: Change) -> dict[str, object]:
    return {
        "experiment_id": change.revision.experiment_id,
        "base": None if change.base is None else change.base.revision,
        "differences": change.differences,
        "revision": dataclasses.asdict(change.revision),
    }


def _settlement(settlement: Settlement) -> dict[str, object]:
    """All of it but the ranges, which stand in the revision."""
    return {name: value for name, value in dataclasses.asdict(settlement).items() if name != "ranges"}


def _kept(settlement: Settlement) -> Iterator[str]:
    if settlement.stays.buckets:
        yield f"keeps {_told(settlement.stays)}"
    if settlement.late.buckets:
        yield f"takes back {_told(settlement.late)}: that was not known when they were given up"
    if settlement.lost.buckets:
        yield f"cannot take back {_told(settlement.lost)}: another experiment has them"
    if settlement.filled_buckets:
        yield f"keeps {_counted(settlement.filled_buckets, 'bucket')} between them: {RANGES_MAX} ranges are the most"


def _given_up(settlement: Settlement, revision: ExperimentDefinition) -> Iterator[str]:
    if settlement.given_up_buckets:
        free = datetime.fromtimestamp(free_at(revision) / 1_000_000, UTC).isoformat(timespec="seconds")
        yield f"gives up {_counted(settlement.given_up_buckets, 'bucket')}, free for others from {free}"
        yield "apply it again before then: it takes back buckets whose exposures were heard of late"


def _told(exposed: Exposed) -> str:
    return f"{_counted(exposed.buckets, 'bucket')} with {_counted(exposed.units, 'exposed unit')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
