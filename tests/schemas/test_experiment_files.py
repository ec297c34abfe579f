"""What a file of experiments may say, and that every fault in it is named."""

import dataclasses
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import ExperimentStatus
from schemas.experiment_files import ExperimentFileError, parse_experiments
from schemas.experiment_history import QUARANTINE_S
from tests.schemas.experiment_samples import DOCUMENT

WHEN_FREE = "what is given up, or owned at an end, is free 90000 s later"
DEFINITION: dict[str, Any] = {
    **DOCUMENT,
    "arms": [
        {"name": "control", "weight": 1, "parameters": {"policy": "popularity"}},
        {"name": "treatment", "weight": 1, "parameters": {"policy": "plackett_luce"}},
    ],
    "changed_at": "2026-01-02T03:04:05.000006+01:00",
    "bucket_ranges": [{"first": 0, "end": 500_000}],
}


def problems_of(*definitions: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ExperimentFileError) as refusal:
        parse_experiments(json.dumps(definitions), "experiments.json")
    assert str(refusal.value).startswith("experiments.json:")
    return refusal.value.problems


def changed(**fields: Any) -> dict[str, Any]:
    return {**DEFINITION, **fields}


def test_one_definition_or_a_list_is_read() -> None:
    (alone,) = parse_experiments(json.dumps(DEFINITION), "file")
    (listed,) = parse_experiments(json.dumps([DEFINITION]), "file")
    assert alone == listed
    assert (alone.experiment_id, alone.status, alone.changed_at) == ("ab-1", ExperimentStatus.RUNNING, 1_767_319_445_000_006)
    assert alone.arms[1].parameters == {"policy": "plackett_luce"}


def test_what_is_read_can_be_written_and_read_again() -> None:
    (definition,) = parse_experiments(json.dumps(DEFINITION), "file")
    assert parse_experiments(json.dumps(dataclasses.asdict(definition)), "file") == (definition,)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"revision": "1"}, "ab-1.revision: should be a whole number, not '1'"),
        ({"revision": True}, "ab-1.revision: should be a whole number, not True"),
        ({"revision": 0}, "ab-1:0: revision should be 1 or more"),
        ({"owner": 3}, "ab-1.owner: should be a text, not 3"),
        ({"owner": " "}, "ab-1:1: owner is empty"),
        ({"kind": "abc"}, "ab-1.kind: 'abc' is not one of ab, aa, holdback, interleaved, observed"),
        ({"layer": "x"}, "ab-1.layer: is not a field"),
        ({"changed_at": "2026-01-02T03:04:05"}, "ab-1.changed_at: '2026-01-02T03:04:05' is neither microseconds"),
        ({"surfaces": "home"}, "ab-1.surfaces: should be a list"),
        ({"surfaces": []}, "ab-1:1: names no surface"),
        ({"arms": DEFINITION["arms"][:1]}, "ab-1:1: has fewer than two arms"),
        ({"arms": [{"name": "a", "weight": 1}] * 2}, "ab-1:1: arm 'a' is there 2 times"),
        ({"arms": [{"name": "a", "weight": 1}, {"name": "b", "weight": 0}]}, "arm 'b' has the weight 0, which is not above 0"),
        ({"arms": [{"name": "a", "weight": 1}, {"name": "", "weight": 1}]}, "ab-1:1: an arm has no name"),
        ({"arms": [{"name": n, "weight": 2**30} for n in "ab"]}, "ab-1:1: the arms' weights sum to more than 2147483647"),
        ({"arms": [{"name": "a", "weight": 1, "parameters": {"t": 1}}]}, "ab-1.arms[0].parameters: should be an object of texts"),
        ({"bucket_ranges": [{"first": -1, "end": 5}]}, "ab-1:1: buckets -1 to 5 are no range within 0 and 1000000"),
        ({"bucket_ranges": [{"first": 5, "end": 5}]}, "ab-1:1: buckets 5 to 5 are no range"),
        ({"bucket_ranges": [{"first": 0, "end": 1_000_001}]}, "ab-1:1: buckets 0 to 1000001 are no range"),
        ({"bucket_ranges": [{"first": 0, "end": 9}, {"first": 8, "end": 10}]}, "ab-1:1: buckets 0 to 9 and 8 to 10 overlap"),
        ({"bucket_ranges": []}, "ab-1:1: has no bucket ranges"),
        ({"layer_id": None}, "ab-1:1: layer_id is missing: serving needs it to assign units"),
        ({"ended_at": 1}, "ab-1:1: ends before it takes effect"),
        ({"eligibility": [{"key": "country", "values": []}]}, "ab-1:1: eligibility of 'country' allows no value"),
    ],
)
def test_a_fault_is_named_with_its_place(fields: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in problems_of(changed(**fields)))


def test_all_faults_are_named_at_once() -> None:
    incomplete = {name: value for name, value in DEFINITION.items() if name not in {"owner", "arms"}}
    assert set(problems_of({**incomplete, "revision": "x"}, 7, changed(kind="x"))) == {  # type: ignore[arg-type]
        "ab-1.owner: is missing",
        "ab-1.arms: is missing",
        "ab-1.revision: should be a whole number, not 'x'",
        "[1]: should be an object",
        "ab-1.kind: 'x' is not one of ab, aa, holdback, interleaved, observed",
    }


def test_a_revision_stands_once() -> None:
    assert problems_of(DEFINITION, DEFINITION) == ("ab-1:1: is there 2 times",)


def test_experiments_of_a_layer_share_its_salt_and_no_bucket() -> None:
    spans = [{"first": 499_999, "end": 600_000}]
    other = changed(experiment_id="ab-2", arm_salt="arm-2", layer_salt="layer-x", bucket_ranges=spans)
    assert problems_of(DEFINITION, other) == (
        "layer 'ranking': has the salts layer-1, layer-x",
        f"ab-1:1 and ab-2:1, both in the layer 'ranking': their bucket ranges overlap; {WHEN_FREE}",
    )


def test_an_ended_experiment_gives_its_buckets_back() -> None:
    end = DOCUMENT["effective_at"]
    ended = changed(revision=2, status="ended", changed_at=end, ended_at=end)
    first = changed(changed_at=end)
    heir = changed(experiment_id="ab-2", arm_salt="arm-2", effective_at=end + QUARANTINE_S * 1_000_000)
    assert len(parse_experiments(json.dumps([first, ended, heir]), "file")) == 3
    too_soon = {**heir, "effective_at": heir["effective_at"] - 1}
    (problem,) = problems_of(first, ended, too_soon)
    assert problem == f"ab-1:1 and ab-2:1, both in the layer 'ranking': their bucket ranges overlap; {WHEN_FREE}"


def test_a_parameter_of_a_surface_has_one_layer() -> None:
    other = changed(experiment_id="ab-2", arm_salt="arm-2", layer_id="another", layer_salt="layer-2")
    (problem,) = problems_of(DEFINITION, other)
    assert problem == f"surface 'home': the layers another, ranking all set 'policy'; one may own it; {WHEN_FREE}"


def test_observed_experiments_need_no_place() -> None:
    observed = changed(kind="observed", layer_id=None, layer_salt=None, arm_salt=None, bucket_ranges=[])
    assert len(parse_experiments(json.dumps(observed), "file")) == 1


@given(st.one_of(st.text(max_size=20), st.none(), st.integers(), st.lists(st.integers(), max_size=3)))
def test_whatever_stands_in_a_field_is_read_or_named(value: object) -> None:
    for field in DEFINITION:
        with suppress(ExperimentFileError):
            (definition,) = parse_experiments(json.dumps(changed(**{field: value})), "file")
            assert json.loads(json.dumps(dataclasses.asdict(definition)))[field] == value


@pytest.mark.parametrize("text", ["", "{", "\ufeff{}"])
def test_what_is_not_json_is_said(text: str) -> None:
    with pytest.raises(ExperimentFileError, match="not JSON"):
        parse_experiments(text, "file")
