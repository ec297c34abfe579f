"""A range that passes from one experiment to another: no unit is ever in both, on whatever snapshot a worker may still serve.

Histories are random, and kept only as far as the rules let them be applied: nobody was exposed, so ranges shrink as they like.
Workers keep a snapshot of any moment and serve it for as long as it may live, with clocks that differ. What they say is gathered:
where two experiments have a unit one after the other, the last word of the one is before the first of the other.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Arm, BucketRange, ExperimentDefinition, ExperimentId, ExperimentStatus, Micros, UnitId
from schemas.experiment_history import QUARANTINE_S, SNAPSHOT_AGE_S_MAX
from schemas.experiment_plans import Author, PlanRefused, ending, plan_of
from schemas.experiment_ranges import united, without
from schemas.experiment_shrinks import settled, shrinks_of
from serving_worker.experiments.assignment import Asker
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import Validity, snapshot_of
from tests.schemas.experiment_samples import DEFINITION, NOW

HOUR_US = 3_600_000_000
SKEW_US = HOUR_US // 6
"""Clocks differ by up to twice this."""
LOOKS_HOURS = (0, 1, 12, 22, 23, 23.99, 24, 25, 30, 50)
"""After a snapshot was taken; the later ones find it too old."""
LAYERS = {"ranking": "policy", "layout": "policy", "other": "rows"}
"""Two of them would set the same parameter."""
UNITS = [UnitId(f"unit-{number}") for number in range(3)]


@dataclass(frozen=True)
class Deed:
    """What somebody tries at an hour: to start, grow, shrink, pause or end an experiment, perhaps for later."""

    hour: int
    name: str
    layer: str
    what: str
    first: int
    width: int
    ahead_hours: int


DEEDS = st.builds(
    Deed,
    hour=st.just(0),
    name=st.sampled_from("ab"),
    layer=st.sampled_from(["ranking", "ranking", "ranking", "layout", "other"]),
    what=st.sampled_from(["start", "start", "grow", "shrink", "shrink", "pause", "end", "end"]),
    first=st.sampled_from([0, 0, 500_000]),
    width=st.sampled_from([500_000, 1_000_000]),
    ahead_hours=st.sampled_from([0, 0, 0, 2, 49]),
)
GAPS_HOURS = st.sampled_from([0, 1, 23, 24, 25])
"""A quarantine is among their sums, and so is one that is an hour short."""


@st.composite
def deeds_in_time(draw: st.DrawFn) -> list[Deed]:
    """One begins and gives up something, or all; another wants to follow; and whatever else happens in between."""
    deeds, hour = [], 0
    for name, what in (("a", "start"), ("a", draw(st.sampled_from(["end", "shrink"]))), ("b", "start"), ("a", "grow")):
        deeds += [*draw(st.lists(DEEDS, max_size=2)), replace(draw(DEEDS), name=name, what=what)]
    timed = []
    for deed in deeds:
        hour += draw(GAPS_HOURS)
        timed.append(replace(deed, hour=hour))
    return timed


def wish_of(deed: Deed, known: Sequence[ExperimentDefinition]) -> ExperimentDefinition | None:
    standing = max((each for each in known if each.experiment_id == deed.name), key=lambda each: each.revision, default=None)
    span = BucketRange(deed.first, min(1_000_000, deed.first + deed.width))
    ahead = Micros(at(deed.hour) + deed.ahead_hours * HOUR_US if deed.ahead_hours else 0)
    if deed.what == "start" and standing is None:
        arms = (Arm("control", 1), Arm("treatment", 1, {LAYERS[deed.layer]: deed.name}))
        placed = replace(DEFINITION, layer_id=deed.layer, layer_salt=f"salt of {deed.layer}", arm_salt=deed.name, arms=arms)
        fresh = replace(placed, experiment_id=ExperimentId(deed.name))
        return replace(fresh, revision=0, bucket_ranges=(span,), effective_at=ahead)
    if standing is None:
        return None
    if deed.what == "end":
        return replace(ending(standing), effective_at=ahead)
    if deed.what in {"grow", "shrink"}:
        ranges = united(standing.bucket_ranges, [span]) if deed.what == "grow" else without(standing.bucket_ranges, [span])
        return replace(standing, revision=0, bucket_ranges=ranges, effective_at=ahead)
    return replace(standing, revision=0, status=ExperimentStatus.PAUSED, effective_at=ahead)


def at(hour: float) -> Micros:
    return Micros(NOW + int(hour * HOUR_US))


def applied(deeds: Sequence[Deed]) -> list[ExperimentDefinition]:
    """The revisions that the rules let through, by the time of their applying."""
    known: list[ExperimentDefinition] = []
    for deed in sorted(deeds, key=lambda deed: deed.hour):
        wish = wish_of(deed, known)
        if wish is not None:
            nobody = {shrink.wish.experiment_id: settled(shrink, {}) for shrink in shrinks_of([wish], known, at(deed.hour))}
            try:
                known.extend(plan_of([wish], known, Author("somebody", at(deed.hour)), nobody).revisions())
            except PlanRefused:
                continue
    return known


Stint = tuple[str, int]
"""An experiment's revision: it is in force once, without a break."""


def seen(known: Sequence[ExperimentDefinition], taken_at: Micros, skew_us: int) -> list[tuple[UnitId, str, Stint, Micros]]:
    """Unit, key and revision, as a worker with this snapshot and clock serves them through its life, with the true times."""
    snapshot = snapshot_of(
        [each for each in known if each.changed_at <= taken_at],
        validity=Validity(Micros(taken_at + skew_us), SNAPSHOT_AGE_S_MAX * 1_000_000),
    )
    found = []
    for hours in LOOKS_HOURS:
        true_time = Micros(taken_at + int(hours * HOUR_US))
        for unit in UNITS:
            decision = decide(snapshot, Asker("user", unit, "home", {}), Micros(true_time + skew_us), "popularity")
            found += [
                (unit, LAYERS[str(each.layer_id)], (str(each.experiment_id), each.revision or 0), true_time)
                for each in decision.assignments
                if each.arm is not None
            ]
    return found


@settings(max_examples=300)
@given(deeds_in_time(), st.lists(st.sampled_from([-SKEW_US, 0, SKEW_US]), min_size=3, max_size=3))
def test_no_unit_is_in_two_experiments_for_one_parameter_on_any_snapshot(deeds: list[Deed], skews_us: list[int]) -> None:
    known = applied(deeds)
    moments = sorted({moment for each in known for moment in (each.changed_at - 1, each.changed_at, each.effective_at)})
    times: defaultdict[tuple[UnitId, str], defaultdict[Stint, list[Micros]]] = defaultdict(lambda: defaultdict(list))
    for place, taken_at in enumerate(moments):
        for unit, key, stint, when in seen(known, Micros(taken_at), skews_us[place % len(skews_us)]):
            times[unit, key][stint].append(when)
    for (unit, key), by_stint in times.items():
        spans = sorted((min(found), max(found), stint) for stint, found in by_stint.items())
        for (_, last, one), (first, _, other) in combinations(spans, 2):
            assert one[0] == other[0] or last < first, f"{unit} is in {one} and {other} for {key}"


def test_histories_in_which_a_range_passes_on_are_among_them() -> None:
    """The property would hold of no hand-over at all: this is one, and it is let through."""
    over = QUARANTINE_S // 3_600
    known = applied(
        [
            Deed(0, "a", "ranking", "start", 0, 500_000, 0),
            Deed(5, "a", "ranking", "end", 0, 0, 0),
            Deed(5 + over - 1, "b", "ranking", "start", 0, 500_000, 0),
            Deed(5 + over, "c", "ranking", "start", 0, 500_000, 0),
        ]
    )
    assert [(each.experiment_id, each.status) for each in known] == [
        ("a", ExperimentStatus.RUNNING),
        ("a", ExperimentStatus.ENDED),
        ("c", ExperimentStatus.RUNNING),
    ]


def test_histories_in_which_a_part_passes_on_and_comes_back_are_among_them() -> None:
    over = QUARANTINE_S // 3_600
    known = applied(
        [
            Deed(0, "a", "ranking", "start", 0, 1_000_000, 0),
            Deed(5, "a", "ranking", "shrink", 500_000, 500_000, 0),
            Deed(5 + over - 1, "b", "ranking", "start", 500_000, 500_000, 0),
            Deed(5 + over, "c", "ranking", "start", 500_000, 500_000, 0),
            Deed(6 + over, "a", "ranking", "grow", 500_000, 500_000, 0),
            Deed(7 + over, "c", "ranking", "shrink", 600_000, 400_000, 0),
            Deed(7 + 2 * over, "a", "ranking", "grow", 600_000, 400_000, 0),
        ]
    )
    assert [(each.experiment_id, [(span.first, span.end) for span in each.bucket_ranges]) for each in known] == [
        ("a", [(0, 1_000_000)]),
        ("a", [(0, 500_000)]),
        ("c", [(500_000, 1_000_000)]),
        ("c", [(500_000, 600_000)]),
        ("a", [(0, 500_000), (600_000, 1_000_000)]),
    ]
