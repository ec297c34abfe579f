"""What revisions have to satisfy together: what has started stays as it is, and salts, buckets and parameters have one owner."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.events import (
    Arm,
    BucketRange,
    EligibilityRule,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    Micros,
)
from schemas.experiment_history import QUARANTINE_S, SNAPSHOT_AGE_S_MAX, broken_rules
from schemas.experiment_rules import RANGES_MAX
from tests.schemas.experiment_samples import DEFINITION, NOW

RUNNING = replace(DEFINITION, bucket_ranges=(BucketRange(0, 100), BucketRange(200, 300)))
QUARANTINE_US = QUARANTINE_S * 1_000_000


def another(name: str, **changes: Any) -> ExperimentDefinition:
    return replace(RUNNING, **{"experiment_id": ExperimentId(name), "arm_salt": f"arm of {name}", **changes})


def then(definition: ExperimentDefinition, **changes: Any) -> ExperimentDefinition:
    at = Micros(definition.changed_at + 10)
    return replace(definition, **{"revision": definition.revision + 1, "changed_at": at, "effective_at": at, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", ExperimentKind.AA),
        ("unit_type", "household"),
        ("surfaces", ("home", "search")),
        ("eligibility", (EligibilityRule("country", ("de",)),)),
        ("arms", RUNNING.arms[::-1]),
        ("arms", (Arm("control", 1), Arm("treatment", 2, RUNNING.arms[1].parameters))),
        ("arms", (Arm("control", 1), Arm("treatment", 1, {"policy": "another"}))),
        ("layer_id", "another"),
        ("layer_salt", "another"),
        ("arm_salt", "another"),
    ],
)
def test_what_decides_who_is_where_is_fixed_once_an_experiment_has_started(field: str, value: Any) -> None:
    fault = f"ab-1:2: {field} cannot change once it has started: start another experiment, with an arm_salt of its own"
    assert fault in broken_rules([RUNNING, then(RUNNING, **{field: value})])
    paused = then(RUNNING, status=ExperimentStatus.PAUSED)
    assert fault.replace(":2", ":3") in broken_rules([RUNNING, paused, then(paused, **{field: value})])
    draft = replace(RUNNING, status=ExperimentStatus.DRAFT)
    assert not [each for each in broken_rules([draft, then(draft, **{field: value})]) if "cannot change" in each]


@pytest.mark.parametrize(
    "ranges", [((0, 300),), ((50, 100), (0, 50), (200, 300), (500, 600)), ((0, 100),), ((1, 100), (200, 299))]
)
def test_ranges_grow_and_shrink_while_it_runs(ranges: tuple[tuple[int, int], ...]) -> None:
    after = then(RUNNING, bucket_ranges=tuple(BucketRange(*span) for span in ranges))
    assert broken_rules([RUNNING, after]) == []


def test_what_is_given_up_is_nobodys_until_no_snapshot_can_know_it_and_what_stays_is_its_own() -> None:
    shrunk = then(RUNNING, bucket_ranges=(BucketRange(0, 100),))
    later = then(shrunk, owner="somebody", effective_at=Micros(shrunk.effective_at + 2 * QUARANTINE_US))
    free_at = Micros(shrunk.effective_at + QUARANTINE_US)
    heir = another("ab-2", bucket_ranges=(BucketRange(250, 300),), effective_at=free_at)
    assert broken_rules([RUNNING, shrunk, heir]) == []
    assert broken_rules([RUNNING, shrunk, later, heir]) == []
    assert "overlap" in str(broken_rules([RUNNING, shrunk, replace(heir, effective_at=Micros(free_at - 1))]))
    assert "overlap" in str(broken_rules([RUNNING, shrunk, later, replace(heir, bucket_ranges=(BucketRange(99, 100),))]))


def test_what_was_given_up_can_come_back_as_long_as_it_is_nobody_elses() -> None:
    shrunk = then(RUNNING, bucket_ranges=(BucketRange(0, 100),))
    free_at = Micros(shrunk.effective_at + QUARANTINE_US)
    heir = another("ab-2", bucket_ranges=(BucketRange(250, 300),), effective_at=free_at)
    back = then(shrunk, bucket_ranges=RUNNING.bucket_ranges)
    assert broken_rules([RUNNING, shrunk, back]) == []
    assert broken_rules([RUNNING, shrunk, heir, replace(back, bucket_ranges=(BucketRange(0, 100), BucketRange(200, 250)))]) == []
    assert "overlap" in str(broken_rules([RUNNING, shrunk, heir, back]))
    ended = then(back, status=ExperimentStatus.ENDED)
    again = Micros(ended.effective_at + QUARANTINE_US)
    assert "overlap" in str(broken_rules([RUNNING, shrunk, back, ended, replace(heir, effective_at=Micros(again - 1))]))
    assert broken_rules([RUNNING, shrunk, back, ended, replace(heir, effective_at=again)]) == []


def test_a_growth_that_was_called_off_before_its_time_owns_nothing() -> None:
    ahead = Micros(NOW + 3 * QUARANTINE_US)
    grown = then(RUNNING, bucket_ranges=(BucketRange(0, 900),), effective_at=ahead)
    called_off = replace(RUNNING, revision=3, changed_at=Micros(NOW + 20), effective_at=Micros(NOW + 20))
    heir = another("ab-2", bucket_ranges=(BucketRange(800, 900),))
    assert "overlap" in str(broken_rules([RUNNING, grown, heir]))
    assert broken_rules([RUNNING, grown, called_off, heir]) == []
    shrunk = replace(called_off, bucket_ranges=(BucketRange(0, 100),))
    late = another("ab-2", bucket_ranges=(BucketRange(200, 900),), effective_at=Micros(NOW + 20 + QUARANTINE_US))
    assert broken_rules([RUNNING, grown, shrunk, late]) == []


def test_what_is_given_up_ahead_of_time_is_owned_until_then_and_a_quarantine_longer() -> None:
    ahead = Micros(NOW + 3 * QUARANTINE_US)
    shrunk = then(RUNNING, bucket_ranges=(BucketRange(0, 100),), effective_at=ahead)
    heir = another("ab-2", bucket_ranges=(BucketRange(200, 300),), effective_at=Micros(ahead + QUARANTINE_US))
    assert broken_rules([RUNNING, shrunk, heir]) == []
    assert "overlap" in str(broken_rules([RUNNING, shrunk, replace(heir, effective_at=Micros(heir.effective_at - 1))]))


def test_a_definition_holds_so_many_ranges_and_no_more() -> None:
    apart = tuple(BucketRange(2 * number, 2 * number + 1) for number in range(RANGES_MAX + 1))
    assert broken_rules([replace(RUNNING, bucket_ranges=apart[1:])]) == []
    assert broken_rules([replace(RUNNING, bucket_ranges=apart)]) == ["ab-1:1: has 1001 bucket ranges, and 1000 are the most"]


def test_who_owns_it_and_what_for_may_change_and_a_pause_may_end() -> None:
    paused = then(RUNNING, owner="somebody", hypothesis="better said", status=ExperimentStatus.PAUSED)
    assert broken_rules([RUNNING, paused, then(paused, status=ExperimentStatus.RUNNING)]) == []


def test_an_end_is_final_and_a_start_too() -> None:
    ended = then(RUNNING, status=ExperimentStatus.ENDED)
    assert "has ended" in str(broken_rules([RUNNING, ended, then(ended, status=ExperimentStatus.RUNNING)]))
    assert "cannot be a draft again" in str(broken_rules([RUNNING, then(RUNNING, status=ExperimentStatus.DRAFT)]))


def test_what_an_experiment_owned_is_nobodys_until_no_snapshot_can_know_it() -> None:
    assert QUARANTINE_S > SNAPSHOT_AGE_S_MAX
    ended = then(RUNNING, status=ExperimentStatus.ENDED)
    free_at = Micros(ended.effective_at + QUARANTINE_US)
    same_buckets = another("ab-2", effective_at=free_at)
    same_parameter = another("ab-3", layer_id="another", layer_salt="layer-2", effective_at=free_at)
    assert broken_rules([RUNNING, ended, same_buckets]) == []
    assert broken_rules([RUNNING, ended, same_parameter]) == []
    for heir in (same_buckets, same_parameter):
        (fault,) = broken_rules([RUNNING, ended, replace(heir, effective_at=Micros(free_at - 1))])
        assert f"what is given up, or owned at an end, is free {QUARANTINE_S} s later" in fault


def test_growing_into_anothers_buckets_is_refused_also_after_its_end() -> None:
    other = another("ab-2", bucket_ranges=(BucketRange(100, 200),))
    ended = then(other, status=ExperimentStatus.ENDED)
    grown = then(RUNNING, bucket_ranges=(BucketRange(0, 300),))
    assert broken_rules([RUNNING, other]) == []
    assert "overlap" in str(broken_rules([RUNNING, other, grown]))
    assert "overlap" in str(broken_rules([RUNNING, other, ended, grown]))
    late = Micros(ended.effective_at + QUARANTINE_US)
    assert broken_rules([RUNNING, other, ended, replace(grown, effective_at=late)]) == []


def test_an_end_that_lies_ahead_frees_nothing_before_it() -> None:
    ended = then(RUNNING, status=ExperimentStatus.ENDED, effective_at=Micros(NOW + QUARANTINE_US))
    assert "overlap" in str(broken_rules([RUNNING, ended, another("ab-2", effective_at=Micros(NOW + QUARANTINE_US + 1))]))


def test_a_draft_owns_nothing() -> None:
    assert broken_rules([RUNNING, another("ab-2", status=ExperimentStatus.DRAFT)]) == []


def test_salts_are_used_once() -> None:
    faults = broken_rules([RUNNING, another("ab-2", arm_salt="arm-1", bucket_ranges=(BucketRange(500, 600),))])
    assert faults == ["ab-1, ab-2: share the arm_salt 'arm-1', so their arms would hold the same units"]
    layers = broken_rules([RUNNING, another("ab-2", layer_id="another", arms=(Arm("a", 1), Arm("b", 1, {"rows": "2"})))])
    assert layers == ["layers another, ranking: share the salt 'layer-1', so they would place units alike"]


@pytest.mark.parametrize(
    ("kind", "treatment", "fault"),
    [
        (ExperimentKind.AB, {}, "ab-1:1: arms 'control' and 'treatment' set the same; where that is meant, the kind is aa"),
        (ExperimentKind.AB, {"policy": "p"}, None),
        (ExperimentKind.AA, {}, None),
        (ExperimentKind.AA, {"policy": "p"}, "ab-1:1: arms 'control' and 'treatment' set different things, and the kind is aa"),
    ],
)
def test_arms_are_alike_where_that_is_meant_and_only_there(
    kind: ExperimentKind, treatment: dict[str, str], fault: str | None
) -> None:
    found = broken_rules([replace(RUNNING, kind=kind, arms=(Arm("control", 1), Arm("treatment", 1, treatment)))])
    assert found == ([] if fault is None else [fault])


def test_a_holdback_stands_above_layers_and_surfaces() -> None:
    holdback = replace(
        RUNNING,
        kind=ExperimentKind.HOLDBACK,
        arms=(Arm("held", 1), Arm("open", 99)),
        surfaces=(),
        bucket_ranges=(),
        layer_id=None,
        layer_salt=None,
    )
    assert broken_rules([holdback]) == []
    assert broken_rules([replace(RUNNING, kind=ExperimentKind.HOLDBACK)]) == [
        "ab-1:1: layer_id is given, and a holdback has none",
        "ab-1:1: layer_salt is given, and a holdback has none",
        "ab-1:1: surfaces is given, and a holdback has none",
        "ab-1:1: bucket_ranges is given, and a holdback has none",
        "ab-1:1: an arm of a holdback sets parameters",
    ]
    assert broken_rules([replace(holdback, arm_salt=None, arms=(*holdback.arms, Arm("third", 1)))]) == [
        "ab-1:1: arm_salt is missing: serving needs it to assign units",
        "ab-1:1: a holdback has two arms: who is held out, and everybody else",
    ]
