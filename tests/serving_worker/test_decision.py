"""Which arms answer a unit: 20 experiments in 3 layers over 100,000 units, ramps, holdbacks, forced arms, and every reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from scipy import stats

from schemas.events import (
    Arm,
    Assignment,
    BucketRange,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    Micros,
    UnitId,
)
from schemas.experiment_history import broken_rules
from schemas.experiment_rules import BUCKETS
from serving_worker.experiments.assignment import Asker, Reason
from serving_worker.experiments.decision import Decision, cannot_be_forced, decide
from serving_worker.experiments.definitions import FUTURE_US_MAX, Snapshot, Validity, snapshot_of
from tests.schemas.experiment_samples import DEFINITION, NOW

UNITS = 100_000
LAYERS = {"ranking": 8, "retrieval": 7, "layout": 5}
"""How many experiments share each layer's buckets."""
HOLDBACK = replace(
    DEFINITION,
    experiment_id=ExperimentId("held-2026"),
    kind=ExperimentKind.HOLDBACK,
    surfaces=(),
    arms=(Arm("held", 1), Arm("open", 9)),
    bucket_ranges=(),
    layer_id=None,
    layer_salt=None,
    arm_salt="held-2026",
)
ASKER = Asker("user", UnitId("unit-1"), "home", {})


def experiment(
    name: str, layer: str, *ranges: tuple[int, int], parameter: str = "", weights: Sequence[int] = (1, 1)
) -> ExperimentDefinition:
    arms = tuple(Arm(f"arm-{place}", weight, {parameter or layer: str(place)}) for place, weight in enumerate(weights))
    return replace(
        DEFINITION,
        experiment_id=ExperimentId(name),
        arms=arms,
        layer_id=layer,
        layer_salt=f"salt of {layer}",
        arm_salt=f"arms of {name}",
        bucket_ranges=tuple(BucketRange(*span) for span in ranges),
    )


def twenty() -> list[ExperimentDefinition]:
    """The shares of a layer's experiments are uneven, one has three arms, and a twentieth of each layer is free."""
    found = []
    for layer, count in LAYERS.items():
        edges = [BUCKETS * 95 // 100 * place * (place + 1) // (count * (count + 1)) for place in range(count + 1)]
        for place in range(count):
            weights = (1, 1) if place % 2 else (2, 1, 1)
            found.append(experiment(f"{layer}-{place}", layer, (edges[place], edges[place + 1]), weights=weights))
    return found


def asked(snapshot: Snapshot, unit: str) -> Decision:
    return decide(snapshot, replace(ASKER, unit_id=UnitId(unit)), NOW, "popularity")


@pytest.fixture(scope="module")
def decisions() -> list[Decision]:
    definitions = twenty()
    assert len(definitions) == 20
    assert broken_rules(definitions) == []
    snapshot = snapshot_of(definitions)
    return [asked(snapshot, f"user-{unit}") for unit in range(UNITS)]


def places_of(decisions: Sequence[Decision], layer: str) -> list[tuple[str, str]]:
    """Of each unit its experiment and arm in the layer."""
    found = [next(each for each in decision.assignments if each.layer_id == layer) for decision in decisions]
    return [(str(each.experiment_id), str(each.arm)) for each in found]


def independent(one: Sequence[object], other: Sequence[object]) -> float:
    """The p-value of a chi-squared test on the table of both."""
    counts = Counter(zip(one, other, strict=True))
    rows, columns = sorted({str(row) for row, _ in counts}), sorted({str(column) for _, column in counts})
    by_text = Counter({(str(row), str(column)): count for (row, column), count in counts.items()})
    return float(stats.chi2_contingency([[by_text[row, column] for column in columns] for row in rows]).pvalue)


@pytest.mark.parametrize("layer", LAYERS)
def test_experiments_and_arms_have_their_shares(decisions: list[Decision], layer: str) -> None:
    observed = Counter(places_of(decisions, layer))
    expected = {("None", "None"): UNITS / 20}
    for definition in (each for each in twenty() if each.layer_id == layer):
        (span,) = definition.bucket_ranges
        for arm in definition.arms:
            share = (span.end - span.first) / BUCKETS * arm.weight / sum(each.weight for each in definition.arms)
            expected[definition.experiment_id, arm.name] = UNITS * share
    assert observed.keys() == expected.keys()
    scale = UNITS / sum(expected.values())
    assert stats.chisquare([observed[key] for key in expected], [expected[key] * scale for key in expected]).pvalue > 0.0001


@pytest.mark.parametrize(("one", "other"), list(combinations(LAYERS, 2)))
def test_layers_are_independent(decisions: list[Decision], one: str, other: str) -> None:
    assert independent(places_of(decisions, one), places_of(decisions, other)) > 0.0001


def test_the_arm_is_independent_of_the_place_within_the_experiment(decisions: list[Decision]) -> None:
    largest = [each for decision in decisions for each in decision.assignments if each.experiment_id == "layout-4"]
    tenths = [(each.bucket or 0) // (BUCKETS // 20) for each in largest]
    assert len(largest) > UNITS / 4
    assert independent(tenths, [each.arm for each in largest]) > 0.0001


def test_nobody_changes_arms_on_a_ramp_from_one_percent_to_all() -> None:
    arms: dict[str, str] = {}
    inside = 0
    for percent in (1, 2, 5, 10, 25, 50, 100):
        snapshot = snapshot_of([experiment("ramp", "ranking", (0, BUCKETS * percent // 100))])
        entered = {unit: entry.arm for unit in map(str, range(20_000)) if (entry := asked(snapshot, unit).assignments[0]).arm}
        assert arms.items() <= entered.items(), f"at {percent} % a unit left, or changed its arm"
        assert len(entered) > inside
        arms, inside = entered, len(entered)
    assert inside == 20_000


def test_each_layer_sets_its_own_parameters_and_all_of_them_answer() -> None:
    snapshot = snapshot_of(
        [
            experiment("rank", "ranking", (0, BUCKETS), parameter="policy"),
            experiment("look", "layout", (0, BUCKETS), parameter="rows"),
        ]
    )
    decision = asked(snapshot, "unit-1")
    arms = {each.experiment_id: each.arm for each in decision.assignments}
    assert decision.parameters == {"policy": str(arms[ExperimentId("rank")])[-1], "rows": str(arms[ExperimentId("look")])[-1]}
    assert decision.policy_id == decision.parameters["policy"]
    assert [each.exposed for each in decision.assignments] == [True, True]


def test_an_experiment_that_sets_nothing_exposes_nobody_unless_its_arms_are_alike_on_purpose() -> None:
    alike = replace(DEFINITION, arms=(Arm("one", 1), Arm("other", 1)))
    assert [each.exposed for each in asked(snapshot_of([alike]), "u").assignments] == [False]
    assert [each.exposed for each in asked(snapshot_of([replace(alike, kind=ExperimentKind.AA)]), "u").assignments] == [True]


def test_who_is_held_out_gets_control_in_every_layer_and_says_so() -> None:
    assert broken_rules([HOLDBACK, *twenty()]) == []
    decisions = [asked(snapshot_of([HOLDBACK, *twenty()]), f"user-{unit}") for unit in range(2_000)]
    held = [each for each in decisions if each.assignments[0].arm == "held"]
    others = [each for each in decisions if each.assignments[0].arm == "open"]
    assert len(held) + len(others) == 2_000
    assert stats.binomtest(len(held), 2_000, 0.1).pvalue > 0.0001
    for decision in held:
        assert (decision.policy_id, decision.parameters) == ("popularity", {})
        assert {each.reason for each in decision.assignments} == {Reason.HOLDBACK}
        assert [each.experiment_id for each in decision.assignments] == ["held-2026", None, None, None]
    for decision in others:
        assert (decision.assignments[0].reason, decision.assignments[0].exposed) == (Reason.ASSIGNED, True)
    assert any(each.assignments[1].experiment_id for each in others)


def test_a_holdback_is_independent_of_the_layers() -> None:
    holdback, layers = snapshot_of([HOLDBACK]), snapshot_of(twenty())
    units = [f"user-{unit}" for unit in range(50_000)]
    held = [asked(holdback, unit).assignments[0].arm for unit in units]
    for layer in LAYERS:
        assert independent(held, places_of([asked(layers, unit) for unit in units], layer)) > 0.0001


def test_a_holdback_of_another_unit_type_or_that_has_ended_holds_nobody() -> None:
    everybody = replace(HOLDBACK, arms=(Arm("held", 10**6), Arm("open", 1)))
    assert asked(snapshot_of([everybody, DEFINITION]), "unit-1").assignments[1].reason == Reason.HOLDBACK
    for other in (
        replace(everybody, unit_type="household"),
        replace(everybody, status=ExperimentStatus.ENDED),
        replace(everybody, effective_at=Micros(NOW + 1)),
    ):
        assert [each.reason for each in asked(snapshot_of([other, DEFINITION]), "unit-1").assignments] == [Reason.ASSIGNED]


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_unit_gets_control_and_says_so(blank: str) -> None:
    decision = asked(snapshot_of([HOLDBACK, DEFINITION]), blank)
    assert (decision.policy_id, [each.reason for each in decision.assignments]) == ("popularity", [Reason.NO_UNIT])


def test_without_definitions_control_answers_and_one_assignment_says_so() -> None:
    decision = decide(None, ASKER, NOW, "popularity")
    assert (decision.policy_id, decision.parameters) == ("popularity", {})
    assert decision.assignments == (Assignment("user", "no_config", exposed=False),)


@pytest.mark.parametrize(("age_us", "stale"), [(0, False), (999, False), (1_000, True), (-FUTURE_US_MAX - 1, True)])
def test_definitions_that_are_too_old_or_from_the_future_decide_nothing(age_us: int, stale: bool) -> None:  # noqa: FBT001
    snapshot = snapshot_of([DEFINITION], validity=Validity(NOW, 1_000))
    decision = decide(snapshot, ASKER, Micros(NOW + age_us), "popularity")
    assert decision.assignments[0].reason == (Reason.STALE_CONFIG if stale else Reason.ASSIGNED)
    forced = replace(ASKER, forced={DEFINITION.experiment_id: "treatment"})
    assert (decide(snapshot, forced, Micros(NOW + age_us), "popularity").policy_id == "popularity") == stale


def test_what_was_killed_holds_its_buckets_and_takes_nobody() -> None:
    decision = asked(snapshot_of([DEFINITION], killed=frozenset({DEFINITION.experiment_id})), "unit-1")
    (assignment,) = decision.assignments
    assert (decision.policy_id, decision.parameters) == ("popularity", {})
    assert (assignment.reason, assignment.experiment_id, assignment.arm, assignment.exposed) == (Reason.KILLED, None, None, False)


@pytest.mark.parametrize(
    ("changes", "killed", "forced", "reason"),
    [
        ({}, (), {"ab-1": "treatment"}, Reason.FORCED),
        ({"bucket_ranges": (BucketRange(0, 1),)}, (), {"ab-1": "treatment"}, Reason.FORCED),
        ({"status": ExperimentStatus.DRAFT}, (), {"ab-1": "treatment"}, Reason.FORCED),
        ({"status": ExperimentStatus.ENDED}, (), {"ab-1": "treatment"}, Reason.CANNOT_FORCE),
        ({}, (), {"ab-1": "no-such-arm"}, Reason.CANNOT_FORCE),
        ({}, ("ab-1",), {"ab-1": "treatment"}, Reason.KILLED),
        ({"surfaces": ("search",)}, (), {"ab-1": "treatment"}, Reason.OTHER_SURFACE),
    ],
)
def test_a_forced_arm_answers_where_it_can_and_says_why_where_not(
    changes: dict[str, object], killed: tuple[str, ...], forced: dict[ExperimentId, str], reason: Reason
) -> None:
    snapshot = snapshot_of([HOLDBACK, replace(DEFINITION, **changes)], killed=frozenset(map(ExperimentId, killed)))  # type: ignore[arg-type]
    for unit in ("unit-1", "unit-2", ""):
        decision = decide(snapshot, replace(ASKER, unit_id=UnitId(unit), forced=forced), NOW, "popularity")
        assert decision.forced
        assert [each.reason for each in decision.assignments] == [reason]
        assert decision.policy_id == ("plackett_luce" if reason is Reason.FORCED else "popularity")


def test_an_experiment_that_is_not_there_cannot_be_forced_and_the_edge_can_know() -> None:
    snapshot = snapshot_of([DEFINITION])
    decision = decide(snapshot, replace(ASKER, forced={ExperimentId("no-such"): "treatment"}), NOW, "popularity")
    assert [each.reason for each in decision.assignments] == [Reason.ASSIGNED, Reason.CANNOT_FORCE]
    assert cannot_be_forced(snapshot, [ExperimentId("no-such"), DEFINITION.experiment_id], NOW) == ["no-such"]
