"""Buckets that change hands: wishes that leave out what their experiment has held, and what of it has to stay. Pure.

A unit that was exposed keeps its arm, so a bucket that holds one stays, or comes back where its exposure was heard of late. While
it is in quarantine (experiment_history.py) it can always come back. To keep more than that is safe: small gaps are filled where
there would be too many ranges.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.events import ExperimentDefinition, Micros
from schemas.experiment_history import HOLDING, histories_of, owned_by_others
from schemas.experiment_ranges import Ranges, bridged, of_buckets, shared, size, united, without
from schemas.experiment_rules import PLACED_KINDS, RANGES_MAX

ExposedUnits = Mapping[int, int]
"""How many exposed units a bucket holds. Buckets without any are left out."""


@dataclass(frozen=True, slots=True)
class Shrink:
    """`left_out` is what the experiment has held and is not wished for; `available` is the part that no other experiment owns."""

    wish: ExperimentDefinition
    base: ExperimentDefinition
    left_out: Ranges
    available: Ranges


@dataclass(frozen=True, slots=True)
class Takeover:
    """`buckets` that a wish claims and that `giver`, as it stands, has held and given up, and may have exposed units in."""

    wish: ExperimentDefinition
    giver: ExperimentDefinition
    buckets: Ranges


@dataclass(frozen=True, slots=True)
class Exposed:
    """Buckets, and the exposed units that they hold."""

    buckets: int
    units: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a shrink: the ranges to be published, and why they are those."""

    ranges: Ranges
    given_up_buckets: int
    stays: Exposed
    late: Exposed
    """Given up before their exposure was known; they come back."""
    lost: Exposed
    """The same, and another experiment's by now."""
    filled_buckets: int
    """Kept without need, so that there are not too many ranges."""


def shrinks_of(wishes: Iterable[ExperimentDefinition], known: Sequence[ExperimentDefinition], now: Micros) -> Iterator[Shrink]:
    """A wish that has left something out is a shrink for good: exposures may always be heard of late."""
    histories = histories_of(known)
    for wish in wishes:
        history = histories.get(wish.experiment_id, [])
        if not history or wish.kind not in PLACED_KINDS or not {wish.status, history[-1].status} <= HOLDING:
            continue
        if left_out := without(_held(history, wish.layer_id), wish.bucket_ranges):
            yield Shrink(wish, history[-1], left_out, without(left_out, owned_by_others(wish, known, now)))


def takeovers_of(wishes: Iterable[ExperimentDefinition], known: Sequence[ExperimentDefinition]) -> Iterator[Takeover]:
    """Only from experiments that go on: with an end its units are everybody's."""
    histories = histories_of(known)
    for wish in wishes:
        if wish.kind not in PLACED_KINDS or wish.status not in HOLDING:
            continue
        own = histories.get(wish.experiment_id, [])[-1:]
        claimed = without(wish.bucket_ranges, _held(own, wish.layer_id))
        for experiment_id, history in histories.items():
            giver = history[-1]
            given_up = without(_held(history, wish.layer_id), giver.bucket_ranges)
            if experiment_id != wish.experiment_id and giver.status in HOLDING and (buckets := shared(claimed, given_up)):
                yield Takeover(wish, giver, buckets)


def settled(shrink: Shrink, exposed: ExposedUnits) -> Settlement:
    wished, base = shrink.wish.bucket_ranges, shrink.base.bucket_ranges
    found = shared(of_buckets(exposed), shrink.left_out)
    kept = shared(found, shrink.available)
    ranges = bridged(united(wished, kept), shrink.available, RANGES_MAX) if kept else wished
    return Settlement(
        ranges,
        given_up_buckets=size(without(base, ranges)),
        stays=_counted(shared(kept, base), exposed),
        late=_counted(without(kept, base), exposed),
        lost=_counted(without(found, shrink.available), exposed),
        filled_buckets=size(without(without(ranges, wished), kept)),
    )


def exposed_within(ranges: Ranges, exposed: ExposedUnits) -> Exposed:
    return _counted(shared(ranges, of_buckets(exposed)), exposed)


def _counted(ranges: Ranges, exposed: ExposedUnits) -> Exposed:
    """`ranges` have exposed buckets only."""
    return Exposed(size(ranges), sum(exposed[bucket] for span in ranges for bucket in range(span.first, span.end)))


def _held(history: Iterable[ExperimentDefinition], layer_id: str | None) -> Ranges:
    """All that the experiment has ever owned in the layer."""
    holding = [each for each in history if each.status in HOLDING and each.layer_id == layer_id]
    return united(span for each in holding for span in each.bucket_ranges)
