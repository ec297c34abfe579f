"""Sets of buckets, as ranges. Pure. What comes out is in order, and no two ranges touch."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

from schemas.events import BucketRange

Ranges = tuple[BucketRange, ...]

NOWHERE = -2
"""No bucket is beside it."""


def united(one: Iterable[BucketRange], other: Iterable[BucketRange] = ()) -> Ranges:
    return _swept(one, other, lambda in_one, in_other: in_one or in_other)


def without(one: Iterable[BucketRange], other: Iterable[BucketRange]) -> Ranges:
    return _swept(one, other, lambda in_one, in_other: in_one and not in_other)


def shared(one: Iterable[BucketRange], other: Iterable[BucketRange]) -> Ranges:
    return _swept(one, other, lambda in_one, in_other: in_one and in_other)


def of_buckets(buckets: Iterable[int]) -> Ranges:
    ordered = sorted(set(buckets))
    firsts = [bucket for before, bucket in pairwise([NOWHERE, *ordered]) if bucket != before + 1]
    ends = [before + 1 for before, bucket in pairwise([*ordered, NOWHERE]) if bucket != before + 1]
    return tuple(map(BucketRange, firsts, ends))


def size(ranges: Iterable[BucketRange]) -> int:
    """How many buckets; `ranges` do not overlap."""
    return sum(span.end - span.first for span in ranges)


def bridged(ranges: Iterable[BucketRange], over: Iterable[BucketRange], ranges_max: int) -> Ranges:
    """`ranges`, with as few buckets of `over` as make them `ranges_max` at most; more, where `over` does not suffice.

    A gap that is filled is one range less, whatever its size: the smallest go first, and of equal ones the lowest.
    """
    whole = united(ranges)
    gaps = without([BucketRange(whole[0].first, whole[-1].end)], whole) if whole else ()
    passable = set(gaps) & set(shared(gaps, over))
    smallest = sorted(passable, key=lambda gap: (gap.end - gap.first, gap.first))
    return united(whole, smallest[: max(0, len(whole) - ranges_max)])


def _swept(one: Iterable[BucketRange], other: Iterable[BucketRange], belongs: Callable[[bool, bool], bool]) -> Ranges:
    """The buckets that belong, by whether they are in `one` and in `other`. Ranges that hold nothing count for nothing."""
    turns, others_turns = _turns(one), _turns(other)
    found: list[BucketRange] = []
    depth, others_depth, since = 0, 0, None
    for place in sorted({*turns, *others_turns}):
        depth += turns.get(place, 0)
        others_depth += others_turns.get(place, 0)
        inside = belongs(depth > 0, others_depth > 0)
        if inside and since is None:
            since = place
        elif not inside and since is not None:
            found.append(BucketRange(since, place))
            since = None
    return tuple(found)


def _turns(ranges: Iterable[BucketRange]) -> dict[int, int]:
    """By place, how many ranges begin there, less those that end there."""
    turns: defaultdict[int, int] = defaultdict(int)
    for span in ranges:
        if span.first < span.end:
            turns[span.first] += 1
            turns[span.end] -= 1
    return turns
