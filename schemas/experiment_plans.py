"""From what owners wish and what the topic holds to the revisions that are to be published. Pure.

A plan names the revision of each experiment that it was made on; it is good only on top of those. Its hash covers the wishes and
these bases, not the time, so that a plan that was shown is the plan that is applied. Nor does it cover which buckets stay for the
units that were exposed there: with every request they may become more.
"""

import dataclasses
import hashlib
import json
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.errors import ContractError
from schemas.events import BucketRange, ExperimentDefinition, ExperimentId, ExperimentKind, ExperimentStatus, Micros
from schemas.experiment_history import broken_rules, histories_of
from schemas.experiment_ranges import size
from schemas.experiment_rules import BUCKETS, name_of
from schemas.experiment_shrinks import Settlement, shrinks_of

FILLED = frozenset({"revision", "changed_by", "changed_at", "effective_at", "ended_at", "plan_hash"})
"""What a plan fills in."""

RANGES_SHOWN = 4

NOTHING_SETTLED: Mapping[ExperimentId, Settlement] = types.MappingProxyType({})


class PlanRefused(ContractError):  # noqa: N818 - says what is the case
    """The wishes break rules, alone or on top of what is there; `problems` has one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n  ".join(("this cannot be applied:", *problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes experiments, and when."""

    name: str
    now: Micros


@dataclass(frozen=True, slots=True)
class Change:
    """A revision to be published, the one that it was made on (None for a new experiment), and what differs, in words."""

    revision: ExperimentDefinition
    base: ExperimentDefinition | None
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    unchanged: tuple[ExperimentId, ...]
    plan_hash: str
    settlements: Mapping[ExperimentId, Settlement]
    """Of the experiments that have left out buckets, changed or not."""

    def revisions(self) -> tuple[ExperimentDefinition, ...]:
        return tuple(change.revision for change in self.changes)


def plan_of(
    wishes: Sequence[ExperimentDefinition],
    known: Sequence[ExperimentDefinition],
    author: Author,
    settlements: Mapping[ExperimentId, Settlement] = NOTHING_SETTLED,
) -> Plan:
    """What has to be published on top of `known` for the wishes to hold, with the ranges that `settlements` say.

    Raises PlanRefused, also where a wish leaves out buckets and there is no settlement of that.
    """
    newest = {experiment_id: history[-1] for experiment_id, history in histories_of(known).items()}
    problems = [*_repeated(wishes), *_unsettled(wishes, known, author.now, settlements)]
    whole = [(wish, _settled(wish, settlements)) for wish in wishes]
    problems += [fault for _, each in whole for fault in _numbering_faults(each, newest.get(each.experiment_id))]
    changed = [(wish, each) for wish, each in whole if _differs(each, newest.get(each.experiment_id), author.now)]
    plan_hash = _hash([wish for wish, _ in changed], newest)
    changes = tuple(_change(each, newest.get(each.experiment_id), author, plan_hash) for _, each in changed)
    problems += _new_faults(known, [change.revision for change in changes])
    if problems:
        raise PlanRefused(tuple(problems))
    changing = {change.revision.experiment_id for change in changes}
    return Plan(
        changes, tuple(wish.experiment_id for wish in wishes if wish.experiment_id not in changing), plan_hash, settlements
    )


def ending(definition: ExperimentDefinition) -> ExperimentDefinition:
    """The wish that it ends, at once."""
    return replace(definition, status=ExperimentStatus.ENDED, revision=0, changed_by="", effective_at=Micros(0))


def _repeated(wishes: Sequence[ExperimentDefinition]) -> list[str]:
    times = Counter(wish.experiment_id for wish in wishes)
    return [f"{experiment_id}: is wished for more than once" for experiment_id in sorted(times) if times[experiment_id] > 1]


def _unsettled(
    wishes: Sequence[ExperimentDefinition],
    known: Sequence[ExperimentDefinition],
    now: Micros,
    settlements: Mapping[ExperimentId, Settlement],
) -> Iterator[str]:
    for shrink in shrinks_of(wishes, known, now):
        settlement = settlements.get(shrink.wish.experiment_id)
        if settlement is None:
            yield f"{shrink.wish.experiment_id}: leaves out buckets that it has held, and nobody has asked who was exposed there"
        elif settlement.given_up_buckets and shrink.wish.effective_at > now:
            yield f"{shrink.wish.experiment_id}: gives up buckets ahead of time, and who is exposed until then is not known"


def _settled(wish: ExperimentDefinition, settlements: Mapping[ExperimentId, Settlement]) -> ExperimentDefinition:
    settlement = settlements.get(wish.experiment_id)
    return wish if settlement is None else replace(wish, bucket_ranges=settlement.ranges)


def _numbering_faults(wish: ExperimentDefinition, base: ExperimentDefinition | None) -> Iterator[str]:
    """A wish may name its revision: the one that stands, as long as nothing differs, or the next one."""
    if wish.revision == 0:
        return
    at = 0 if base is None else base.revision
    same = base is not None and not _differing(wish, base)
    if wish.revision != (at if same else at + 1):
        yield f"{wish.experiment_id}: names the revision {wish.revision}, and {at} stands; leave it out, or make it {at + 1}"


def _differs(wish: ExperimentDefinition, base: ExperimentDefinition | None, now: Micros) -> bool:
    if base is None or _differing(wish, base):
        return True
    return wish.effective_at > now and wish.effective_at != base.effective_at


def _differing(wish: ExperimentDefinition, base: ExperimentDefinition) -> list[str]:
    names = [field.name for field in dataclasses.fields(ExperimentDefinition) if field.name not in FILLED]
    return [name for name in names if getattr(wish, name) != getattr(base, name)]


def _hash(wishes: Sequence[ExperimentDefinition], newest: Mapping[ExperimentId, ExperimentDefinition]) -> str:
    bases = {wish.experiment_id: newest[wish.experiment_id].revision for wish in wishes if wish.experiment_id in newest}
    contents = sorted((_content(wish) for wish in wishes), key=lambda content: str(content["experiment_id"]))
    text = json.dumps([bases, contents], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _content(wish: ExperimentDefinition) -> dict[str, object]:
    fields = dataclasses.asdict(wish)
    return {name: fields[name] for name in fields if name not in FILLED or name == "effective_at"}


def _change(wish: ExperimentDefinition, base: ExperimentDefinition | None, author: Author, plan_hash: str) -> Change:
    effective_at = _effective_at(wish, author.now)
    ended_at = effective_at if wish.status is ExperimentStatus.ENDED else None
    revision = replace(
        wish,
        revision=1 if base is None else base.revision + 1,
        changed_by=wish.changed_by or author.name,
        changed_at=author.now,
        effective_at=effective_at,
        ended_at=wish.ended_at if wish.kind is ExperimentKind.OBSERVED else ended_at,
        plan_hash=plan_hash,
    )
    return Change(revision, base, tuple(_differences(revision, base)))


def _effective_at(wish: ExperimentDefinition, now: Micros) -> Micros:
    """The time that was wished for, if it lies ahead. Observed experiments may have a past: serving has no part in them."""
    if wish.kind is ExperimentKind.OBSERVED and wish.effective_at:
        return wish.effective_at
    return max(wish.effective_at, now)


def _new_faults(known: Sequence[ExperimentDefinition], revisions: Sequence[ExperimentDefinition]) -> list[str]:
    """What is wrong with the new revisions, without the faults that stand in the topic already."""
    standing = set(broken_rules(known))
    return [fault for fault in broken_rules([*known, *revisions]) if fault not in standing]


def _differences(revision: ExperimentDefinition, base: ExperimentDefinition | None) -> Iterator[str]:
    if base is None:
        yield from _introduction(revision)
        return
    for name in _differing(revision, base):
        yield f"{name}: {shown(getattr(base, name))} → {shown(getattr(revision, name))}"
    if revision.effective_at > revision.changed_at:
        yield f"takes effect at {revision.effective_at} µs since 1970"


def _introduction(revision: ExperimentDefinition) -> Iterator[str]:
    yield f"new: {revision.kind}, {revision.status}, arms {shown(revision.arms)}"
    if revision.layer_id:
        yield f"layer {revision.layer_id}: {shown(revision.bucket_ranges)}"


def shown(value: object) -> str:
    """A field's value in one line, as people read it."""
    if isinstance(value, tuple) and value and isinstance(value[0], BucketRange):
        spans = [f"{span.first}–{span.end}" for span in value[:RANGES_SHOWN]]
        more = [f"{len(value) - RANGES_SHOWN} more"] if len(value) > RANGES_SHOWN else []
        return f"{', '.join([*spans, *more])} ({size(value) / BUCKETS:.4%} of the layer)"
    if isinstance(value, tuple):
        return ", ".join(map(shown, value)) or "nothing"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return " ".join(shown(part) for part in dataclasses.astuple(value) if part != {})
    if isinstance(value, Mapping):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return "nothing" if value is None else str(value)


def titles(plan: Plan) -> list[str]:
    """`experiment:revision` of each change."""
    return [name_of(change.revision) for change in plan.changes]
