from io import BytesIO
from random import Random
from typing import Any

import fastavro
import pytest

from schemas.wire import HEADER_BYTES
from tests.benchmarks.figures import Run, Spread, deviation, percentile, ratios
from tests.benchmarks.poison import KINDS, spoiled
from tests.benchmarks.probes import Seen, Sent, latencies
from tests.benchmarks.workloads import WORKLOADS, records

SCHEMA_ID = 7


def test_a_run_is_as_busy_as_all_its_processes_together() -> None:
    run = Run(1000, 2.0, {"contender": 1.0, "kafka": 0.5, "warehouse": 1.5}, 0.2, {})
    assert run.rows_per_s == 500
    assert run.busy_cores == 1.5
    assert run.cpu_us_per_row("kafka") == 500
    assert run.all_cpu_us_per_row == 3000
    assert run.others_cores == 0.1


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([10.0, 30.0], [5.0, 10.0]) == [2.0, 3.0]
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_the_deviation_is_that_of_the_farthest_in_either_direction() -> None:
    assert deviation([100.0, 100.0, 88.0]) == pytest.approx(0.12)
    assert deviation([100.0, 111.0, 100.0]) == pytest.approx(0.11)


def test_percentiles_are_those_of_the_sorted_values() -> None:
    assert percentile([float(number) for number in range(101)], 95) == pytest.approx(95.0)


def test_a_probe_counts_from_when_it_was_due_until_the_first_look_that_saw_it() -> None:
    sent = [Sent(0, 0, 1.0), Sent(1, 1, 1.1), Sent(0, 2, 1.2)]
    seen = [Seen(1.05, {}), Seen(1.5, {0: 0}), Seen(2.0, {0: 2}), Seen(2.5, {0: 2, 1: 1})]
    assert sorted(latencies(sent, seen)) == pytest.approx([0.5, 0.8, 1.4])


def test_the_wanted_share_is_spoiled_and_every_kind_is_poison() -> None:
    sound = list(records(WORKLOADS["flat"], SCHEMA_ID, 1000))
    changed = [
        (before, after)
        for (_, before), (_, after) in zip(sound, spoiled(iter(sound), 1000, 0.01, Random(1)), strict=True)
        if before != after
    ]
    assert len(changed) == 10
    assert len(list(KINDS)) == 5
    assert len([one for one, other in zip(sound, spoiled(iter(sound), 1000, 1e-6, Random(1)), strict=True) if one != other]) == 1
    assert list(spoiled(iter(sound), 1000, 0.0, Random(1))) == sound


def test_a_uuid_is_spoiled_without_a_change_of_length() -> None:
    [(_, value)] = records(WORKLOADS["flat"], SCHEMA_ID, 1)
    bad = KINDS["bad uuid"](value, 0, Random(1))
    assert bad is not None
    assert len(bad) == len(value)
    schema = fastavro.parse_schema(WORKLOADS["flat"].schema)
    with pytest.raises(ValueError, match="hexadecimal"):
        fastavro.schemaless_reader(_datum(bad), schema, None)


def test_six_fields_read_under_their_own_schema() -> None:
    workload = WORKLOADS["six"]
    [(key, value)] = records(workload, SCHEMA_ID, 1)
    read: Any = fastavro.schemaless_reader(_datum(value), fastavro.parse_schema(workload.schema), None)
    assert list(read) == list(workload.columns)
    assert read["unit_id"] == key


def _datum(value: bytes) -> BytesIO:
    return BytesIO(value[HEADER_BYTES:])
