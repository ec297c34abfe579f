"""Where a unit falls: the hash, its vectors, its evenness, and what keeps a unit out."""

import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schemas.events import (
    Arm,
    BucketRange,
    EligibilityRule,
    ExperimentDefinition,
    ExperimentId,
    ExperimentKind,
    ExperimentStatus,
    Micros,
    UnitId,
)
from schemas.experiment_rules import BUCKETS
from serving_worker.experiments.assignment import Asker, Domain, Reason, bucket_of, framed, place
from serving_worker.experiments.decision import decide
from serving_worker.experiments.definitions import snapshot_of
from serving_worker.experiments.layers import Layer, enter
from tests.schemas.experiment_samples import DEFINITION as SAMPLE
from tests.schemas.experiment_samples import NOW

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs/assignment-vectors.json").read_text(encoding="utf-8"))
VECTORS = PUBLISHED["vectors"]
MASK = 2**64 - 1
ARMS = (Arm("control", 1), Arm("treatment", 3, {"policy": "plackett_luce"}))
DEFINITION = replace(SAMPLE, arms=ARMS)
ASKER = Asker("user", UnitId("unit-1"), "home", {})
UNIT = framed("unit-1")


def murmur3_x64_128_first_half(data: bytes) -> int:
    """The first 64 bits of murmur3 x64 128, seed 0, written from the reference (MurmurHash3.cpp, A. Appleby)."""
    one, two = 0x87C37B91114253D5, 0x4CF5AD432745937F
    high = low = 0
    whole = len(data) // 16 * 16
    for start in range(0, whole, 16):
        k1, k2 = struct.unpack_from("<QQ", data, start)
        high ^= rotated(k1 * one & MASK, 31) * two & MASK
        high = ((rotated(high, 27) + low) * 5 + 0x52DCE729) & MASK
        low ^= rotated(k2 * two & MASK, 33) * one & MASK
        low = ((rotated(low, 31) + high) * 5 + 0x38495AB5) & MASK
    tail = data[whole:].ljust(16, b"\0")
    k1, k2 = struct.unpack("<QQ", tail)
    low ^= rotated(k2 * two & MASK, 33) * one & MASK
    high ^= rotated(k1 * one & MASK, 31) * two & MASK
    high, low = high ^ len(data), low ^ len(data)
    high = (high + low) & MASK
    low = (low + high) & MASK
    return (mixed(high) + mixed(low)) & MASK


def rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & MASK


def mixed(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ value >> 33


def name_of(vector: dict[str, Any]) -> str:
    return f"{vector['domain']}:{vector['salt']}:{vector['unit']}"


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_the_published_vectors_hold_for_both_implementations(vector: dict[str, Any]) -> None:
    domain, salt, unit, places = (vector[name] for name in ("domain", "salt", "unit", "places"))
    texts = [text.encode(PUBLISHED["encoding"]) for text in (domain, salt, unit)]
    data = b"".join(len(text).to_bytes(PUBLISHED["length_bytes"], PUBLISHED["byte_order"]) + text for text in texts)
    assert data.hex() == vector["hashed"]
    assert murmur3_x64_128_first_half(data) == int(vector["first_64_bits"])
    assert place(Domain(domain), salt, unit, places) == vector["place"]
    assert (places == PUBLISHED["buckets"]) if domain == "layer" else (places == sum(vector["weights"]))


def test_the_published_hash_is_named_by_its_variant_and_its_seed() -> None:
    digest = getattr(mmh3, f"mmh3_{PUBLISHED['variant'].removeprefix('murmur3_')}_uintdigest")
    for vector in VECTORS:
        assert digest(bytes.fromhex(vector["hashed"]), PUBLISHED["seed"]) & MASK == int(vector["first_64_bits"])
    assert PUBLISHED["domains"] == [domain.value for domain in Domain]
    assert PUBLISHED["buckets"] == BUCKETS


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector["domain"] != "layer"], ids=name_of)
def test_the_published_arms_are_those_that_serving_draws(vector: dict[str, Any]) -> None:
    arms = tuple(Arm(str(number), weight) for number, weight in enumerate(vector["weights"]))
    asked: dict[str, Any] = {"arms": arms, "arm_salt": vector["salt"]}
    if vector["domain"] == "holdback":
        asked |= {"kind": ExperimentKind.HOLDBACK, "surfaces": (), "bucket_ranges": (), "layer_id": None, "layer_salt": None}
    snapshot = snapshot_of([replace(SAMPLE, **asked)])
    (assignment,) = decide(snapshot, replace(ASKER, unit_id=UnitId(vector["unit"])), NOW, "popularity").assignments
    assert assignment.arm == str(vector["arm"])


@given(st.binary(max_size=100))
def test_the_hash_is_murmur3_x64_128(data: bytes) -> None:
    assert mmh3.hash64(data, 0, True, signed=False)[0] == murmur3_x64_128_first_half(data)


@given(st.sampled_from(Domain), st.text(max_size=20), st.text(max_size=40), st.integers(1, 2**31 - 1))
def test_a_place_is_the_hash_scaled_down(domain: Domain, salt: str, unit_id: str, places: int) -> None:
    data = b"".join(struct.pack(">I", len(text)) + text for text in map(utf8, (domain, salt, unit_id)))
    expected = murmur3_x64_128_first_half(data) * places // 2**64
    assert place(domain, salt, unit_id, places) == expected < places


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(*[st.text(max_size=6) for _ in range(4)])
def test_two_texts_can_not_be_cut_elsewhere_and_hash_alike(salt: str, unit: str, other_salt: str, other_unit: str) -> None:
    same = (salt, unit) == (other_salt, other_unit)
    assert (framed(salt) + framed(unit) == framed(other_salt) + framed(other_unit)) == same


def test_buckets_are_evenly_filled() -> None:
    counts = [0] * 1_000
    for unit in range(200_000):
        counts[bucket_of("layer", f"user-{unit}") // 1_000] += 1
    assert stats.chisquare(counts).pvalue > 0.001


def draw_arm(arm_salt: str, unit_id: str, arms: Sequence[Arm]) -> Arm:
    """The arm by its definition: the first whose weights, summed up, pass the unit's place."""
    left = place(Domain.ARM, arm_salt, unit_id, sum(arm.weight for arm in arms))
    for arm in arms:
        if left < arm.weight:
            return arm
        left -= arm.weight
    raise AssertionError


def test_arms_have_their_weights() -> None:
    drawn = [draw_arm("salt", f"user-{unit}", ARMS).name for unit in range(100_000)]
    observed = [drawn.count("control"), drawn.count("treatment")]
    assert stats.chisquare(observed, [25_000, 75_000]).pvalue > 0.001


def test_the_arm_tells_nothing_of_the_place_in_the_layer() -> None:
    arms = [Arm(str(number), 1) for number in range(4)]
    table = [[0] * 4 for _ in range(20)]
    for unit in range(100_000):
        name = f"user-{unit}"
        table[bucket_of("layer-1", name) // 50_000][int(draw_arm("arm-1", name, arms).name)] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_two_layers_place_units_independently() -> None:
    table = [[0] * 10 for _ in range(10)]
    for unit in range(100_000):
        name = f"user-{unit}"
        table[bucket_of("layer-1", name) // 100_000][bucket_of("layer-2", name) // 100_000] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def entered(definition: ExperimentDefinition, asker: Asker = ASKER, now: Micros = NOW) -> str:
    (layer,) = snapshot_of([definition]).layers
    return enter(layer, asker, framed(asker.unit_id), now).assignment.reason


def test_a_unit_that_enters_is_told_with_bucket_arm_and_revision() -> None:
    (layer,) = snapshot_of([DEFINITION]).layers
    assignment = enter(layer, ASKER, UNIT, NOW).assignment
    assert (assignment.experiment_id, assignment.revision, assignment.layer_id) == ("ab-1", 1, "ranking")
    assert assignment.bucket == bucket_of("layer-1", "unit-1")
    assert assignment.arm == draw_arm("arm-1", "unit-1", ARMS).name
    assert (assignment.reason, assignment.exposed) == (Reason.ASSIGNED, True)


def test_every_refusal_has_its_reason() -> None:
    bucket = bucket_of("layer-1", "unit-1")
    rule = EligibilityRule("country", ("de", "fr"))
    beside = tuple(span for span in (BucketRange(0, bucket), BucketRange(bucket + 1, 1_000_000)) if span.first < span.end)
    assert entered(replace(DEFINITION, bucket_ranges=beside)) == Reason.NO_EXPERIMENT
    assert entered(replace(DEFINITION, status=ExperimentStatus.PAUSED)) == Reason.NOT_RUNNING
    assert entered(replace(DEFINITION, status=ExperimentStatus.DRAFT)) == Reason.NOT_RUNNING
    assert entered(replace(DEFINITION, unit_type="household")) == Reason.OTHER_UNIT_TYPE
    assert entered(replace(DEFINITION, surfaces=("search",))) == Reason.OTHER_SURFACE
    assert entered(replace(DEFINITION, eligibility=(rule,))) == Reason.NOT_ELIGIBLE
    assert entered(replace(DEFINITION, eligibility=(rule,)), replace(ASKER, context={"country": "us"})) == Reason.NOT_ELIGIBLE
    assert entered(replace(DEFINITION, eligibility=(rule,)), replace(ASKER, context={"country": "fr"})) == Reason.ASSIGNED


def test_who_is_kept_out_is_in_no_experiment_and_no_arm() -> None:
    (layer,) = snapshot_of([replace(DEFINITION, status=ExperimentStatus.PAUSED)]).layers
    assignment = enter(layer, ASKER, UNIT, NOW).assignment
    assert (assignment.experiment_id, assignment.arm, assignment.revision, assignment.layer_id) == (None, None, None, "ranking")


def test_one_bucket_decides_who_is_in_the_range() -> None:
    bucket = bucket_of("layer-1", "unit-1")
    assert entered(replace(DEFINITION, bucket_ranges=(BucketRange(bucket, bucket + 1),))) == Reason.ASSIGNED


def test_a_revision_counts_from_its_effective_time() -> None:
    later = replace(DEFINITION, revision=2, effective_at=Micros(NOW + 10), status=ExperimentStatus.ENDED)
    (layer,) = snapshot_of([later, DEFINITION]).layers
    assert enter(layer, ASKER, UNIT, Micros(NOW + 9)).assignment.revision == 1
    assert enter(layer, ASKER, UNIT, Micros(NOW + 10)).assignment.reason == Reason.NOT_RUNNING
    assert enter(layer, ASKER, UNIT, Micros(NOW - 1)).assignment.reason == Reason.NO_EXPERIMENT


@pytest.mark.parametrize("status", [ExperimentStatus.ENDED, ExperimentStatus.PAUSED])
def test_what_was_stopped_at_once_is_stopped_on_a_worker_whose_clock_is_behind(status: ExperimentStatus) -> None:
    stop = replace(DEFINITION, revision=2, status=status, changed_at=Micros(NOW + 10), effective_at=Micros(NOW + 10))
    (layer,) = snapshot_of([stop, DEFINITION]).layers
    assert enter(layer, ASKER, UNIT, Micros(NOW + 1)).assignment.reason == Reason.NOT_RUNNING


def test_only_the_present_and_the_future_need_to_be_kept() -> None:
    later = replace(DEFINITION, revision=2, effective_at=Micros(NOW + 10), status=ExperimentStatus.ENDED)
    (layer,) = snapshot_of([DEFINITION, later], since=Micros(NOW + 5)).layers
    assert enter(layer, ASKER, UNIT, Micros(NOW + 9)).assignment.reason == Reason.ASSIGNED
    assert enter(layer, ASKER, UNIT, Micros(NOW + 10)).assignment.reason == Reason.NOT_RUNNING
    assert enter(layer, ASKER, UNIT, Micros(NOW - 10)).assignment.reason == Reason.ASSIGNED, "a clock that was set back"


def test_buckets_of_an_ended_experiment_can_be_given_to_another() -> None:
    ended = replace(DEFINITION, status=ExperimentStatus.ENDED)
    heir = replace(DEFINITION, experiment_id=ExperimentId("ab-2"))
    (layer,) = snapshot_of([ended, heir]).layers
    assert enter(layer, ASKER, UNIT, NOW).assignment.experiment_id == "ab-2"


def test_observed_experiments_are_not_assigned() -> None:
    assert snapshot_of([replace(DEFINITION, kind=ExperimentKind.OBSERVED)]).layers == ()


def test_layers_are_in_the_order_of_their_ids() -> None:
    other = replace(DEFINITION, experiment_id=ExperimentId("ab-2"), layer_id="another")
    layers: tuple[Layer, ...] = snapshot_of([DEFINITION, other]).layers
    assert [layer.layer_id for layer in layers] == ["another", "ranking"]
