"""From what owners wish and what the topic holds to the revisions that are to be published. Pure.

A plan is made on the newest revision of each experiment that workers take, and is good only on top of that. It is numbered after
the highest in the topic: one that workers refuse may have come in between, written past the desk. Its hash covers the wishes and
both of these, not the time, so that a plan that was shown is the plan that is applied. Nor does it cover which buckets stay for
the units that were exposed there: with every request they may become more.
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
from schemas.experiment_rules import BUCKETS, id_faults, name_of
from schemas.experiment_shrinks import Settlement, shrinks_of

FILLED = frozenset({"revision", "changed_by", "changed_at", "effective_at", "ended_at", "plan_hash"})
"""What a plan fills in."""

RANGES_SHOWN = 4

NOTHING_SETTLED: Mapping[ExperimentId, Settlement] = types.MappingProxyType({})
NONE_ABOVE: Mapping[ExperimentId, int] = types.MappingProxyType({})


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
        """As they take effect: who follows comes after what is given up, or a host that has read no further refuses it."""
        return tuple(sorted((change.revision for change in self.changes), key=lambda revision: revision.effective_at))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an experiment stands: its newest revision that workers take, and the highest that the topic has."""

    base: ExperimentDefinition | None = None
    highest: int = 0

    @property
    def stands(self) -> int:
        return 0 if self.base is None else self.base.revision


def plan_of(
    wishes: Sequence[ExperimentDefinition],
    known: Sequence[ExperimentDefinition],
    author: Author,
    settlements: Mapping[ExperimentId, Settlement] = NOTHING_SETTLED,
    highest: Mapping[ExperimentId, int] = NONE_ABOVE,
) -> Plan:
    """What has to be published on top of `known` for the wishes to hold, with the ranges that `settlements` say.

    `highest` is the highest revision in the topic, by experiment. Where it is above those in `known`, workers refuse it. What is
    published is numbered after it, and a wish is published even where it is what stands: that heals what is refused.
    Raises PlanRefused, also where a wish leaves out buckets and there is no settlement of that.
    """
    places = _places(wishes, known, highest)
    problems = [*_repeated(wishes), *_unsettled(wishes, known, author.now, settlements)]
    whole = [(wish, _settled(wish, settlements)) for wish in wishes]
    problems += [fault for _, each in whole for fault in _naming_faults(each, places[each.experiment_id])]
    changed = [(wish, each) for wish, each in whole if _differs(each, places[each.experiment_id], author.now)]
    plan_hash = _hash([wish for wish, _ in changed], places)
    changes = tuple(_change(each, places[each.experiment_id], author, plan_hash) for _, each in changed)
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


def _places(
    wishes: Sequence[ExperimentDefinition], known: Sequence[ExperimentDefinition], highest: Mapping[ExperimentId, int]
) -> dict[ExperimentId, _Place]:
    """Of every experiment that is wished for."""
    places = {wish.experiment_id: _Place(highest=highest.get(wish.experiment_id, 0)) for wish in wishes}
    for experiment_id, history in histories_of(known).items():
        if (place := places.get(experiment_id)) is not None:
            places[experiment_id] = _Place(history[-1], max(place.highest, history[-1].revision))
    return places


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


def _naming_faults(wish: ExperimentDefinition, place: _Place) -> Iterator[str]:
    """A wish may name its revision: the one that stands, as long as nothing is to be published, or the next one."""
    if place.base is None:
        yield from id_faults(wish.experiment_id)
    if wish.revision == 0:
        return
    following = place.highest + 1
    if wish.revision != (place.stands if _is_standing(wish, place) else following):
        yield (
            f"{wish.experiment_id}: names the revision {wish.revision}, and {place.stands} stands; "
            f"leave it out, or make it {following}"
        )


def _differs(wish: ExperimentDefinition, place: _Place, now: Micros) -> bool:
    at = None if place.base is None else place.base.effective_at
    return not _is_standing(wish, place) or (wish.effective_at > now and wish.effective_at != at)


def _is_standing(wish: ExperimentDefinition, place: _Place) -> bool:
    """Whether it is what stands, with nothing after that to be healed: after an end nothing can be."""
    base = place.base
    if base is None or _differing(wish, base):
        return False
    return place.highest == base.revision or base.status is ExperimentStatus.ENDED


def _differing(wish: ExperimentDefinition, base: ExperimentDefinition) -> list[str]:
    names = [field.name for field in dataclasses.fields(ExperimentDefinition) if field.name not in FILLED]
    return [name for name in names if getattr(wish, name) != getattr(base, name)]


def _hash(wishes: Sequence[ExperimentDefinition], places: Mapping[ExperimentId, _Place]) -> str:
    bases = {wish.experiment_id: (places[wish.experiment_id].stands, places[wish.experiment_id].highest) for wish in wishes}
    contents = sorted((_content(wish) for wish in wishes), key=lambda content: str(content["experiment_id"]))
    text = json.dumps([bases, contents], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _content(wish: ExperimentDefinition) -> dict[str, object]:
    fields = dataclasses.asdict(wish)
    return {name: fields[name] for name in fields if name not in FILLED or name == "effective_at"}


def _change(wish: ExperimentDefinition, place: _Place, author: Author, plan_hash: str) -> Change:
    effective_at = _effective_at(wish, place.base, author.now)
    ended_at = effective_at if wish.status is ExperimentStatus.ENDED else None
    revision = replace(
        wish,
        revision=place.highest + 1,
        changed_by=wish.changed_by or author.name,
        changed_at=author.now,
        effective_at=effective_at,
        ended_at=wish.ended_at if wish.kind is ExperimentKind.OBSERVED else ended_at,
        plan_hash=plan_hash,
    )
    return Change(revision, place.base, tuple(_differences(revision, place)))


def _effective_at(wish: ExperimentDefinition, base: ExperimentDefinition | None, now: Micros) -> Micros:
    """The time that was wished for, if it lies ahead; what only says again what stands leaves the time as it is.

    Observed experiments may have a past: serving has no part in them.
    """
    wished = wish.effective_at
    if base is not None and not wished and not _differing(wish, base):
        wished = base.effective_at
    return wished if wish.kind is ExperimentKind.OBSERVED and wished else max(wished, now)


def _new_faults(known: Sequence[ExperimentDefinition], revisions: Sequence[ExperimentDefinition]) -> list[str]:
    """What is wrong with the new revisions, without the faults that stand in the topic already."""
    standing = set(broken_rules(known))
    return [fault for fault in broken_rules([*known, *revisions]) if fault not in standing]


def _differences(revision: ExperimentDefinition, place: _Place) -> Iterator[str]:
    base = place.base
    if place.highest > place.stands:
        yield f"numbered after {revision.experiment_id}:{place.highest}, which workers refuse"
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
