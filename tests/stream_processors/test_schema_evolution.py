"""New versions of a contract on their way through the real broker, registry, sink and warehouse."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema

from schemas.codec import parse_physical
from schemas.contracts import contract
from schemas.migrations import plan_migration
from schemas.topics import INTERACTIONS, subject
from schemas.wire import HEADER_BYTES, frame
from tests.schemas.added_fields import ADDED, contracts_with, schema_with
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LANDING_LIMIT_S = 60
CLASSIC = "group.protocol=classic,session.timeout.ms=6000,heartbeat.interval.ms=500"
MIXED, PLAIN = 0, 1
"""Two partitions: versions mix in the one, the other has the old version alone."""

EVOLVED = {"channel": ("string", "web"), "score": ("double", 0.5), "tags": ({"type": "array", "items": "string"}, ["none"])}


def register(bench: Bench, fields: Mapping[str, tuple[Any, Any]]) -> int:
    schema = Schema(json.dumps(schema_with("Interaction", dict(fields))), "AVRO")
    with bench.registry() as registry:
        schema_id: int = registry.register_schema(subject(bench.prefix, INTERACTIONS), schema)
    return schema_id


def datum(values: Mapping[str, Any], fields: Mapping[str, tuple[Any, Any]]) -> bytes:
    """What follows an old version's datum in the new version's."""
    added = {"type": "record", "name": "Added", "fields": [{"name": name, "type": kind} for name, (kind, _) in fields.items()]}
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, parse_physical(added), values)
    return buffer.getvalue()


def send(bench: Bench, partition: int, values: Sequence[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    for value in values:
        producer.produce(bench.topic(), value, partition=partition)
    assert producer.flush(FLUSH_LIMIT_S) == 0


def apply_plan(bench: Bench, directory: Path, fields: Mapping[str, tuple[Any, Any]]) -> None:
    """What `schemas migrate` plans, as `tailrace up` applies it once it is reviewed."""
    plan = plan_migration(contracts_with(directory, "Interaction", dict(fields)))
    assert plan.migration is not None, plan.findings
    for statement in plan.migration.statements:
        bench.command_sql(statement)


@pytest.fixture
def running_sink(bench: Bench, tmp_path: Path) -> Iterator[Callable[[], bool]]:
    """A sink at work; whether it still runs."""
    environment = {**bench.environment, "TAILRACE_KAFKA_OPTIONS": CLASSIC}
    with (tmp_path / "sink.log").open("w") as log, subprocess.Popen(bench.command("sink"), env=environment, stderr=log) as sink:
        yield lambda: sink.poll() is None
        sink.terminate()
        assert sink.wait(LANDING_LIMIT_S) == 0, (tmp_path / "sink.log").read_text()


def test_versions_mix_under_load_wait_for_the_migration_and_then_are_all_in_once(
    bench: Bench, running_sink: Callable[[], bool], tmp_path: Path
) -> None:
    """In one partition: old and new record by record, the old producer alone again, and, after the migration, both."""
    schema_id = register(bench, EVOLVED)
    said = datum({"channel": "tel", "score": 2.5, "tags": ["a", "b"]}, EVOLVED)

    def mixed(count: int, first: int) -> list[bytes]:
        old = interactions(bench, count, first)
        return [frame(schema_id, value[HEADER_BYTES:] + said) if number % 2 else value for number, value in enumerate(old)]

    send(bench, PLAIN, interactions(bench, 500, first=100_000))
    send(bench, MIXED, [*interactions(bench, 300), *mixed(2000, 300), *interactions(bench, 700, first=2300)])
    assert eventually(lambda: count_of(bench, f"_partition = {PLAIN}") == 500, LANDING_LIMIT_S), "another partition goes on"
    assert count_of(bench, f"_partition = {MIXED} AND producer_seq >= 300 AND _schema_id = {schema_id}") == 0
    assert bench.counts("dead_letters") == (0, 0)
    assert running_sink()

    apply_plan(bench, tmp_path, EVOLVED)
    send(bench, MIXED, mixed(1000, 3000))
    assert eventually(lambda: count_of(bench, "1") == 4500, LANDING_LIMIT_S)

    assert bench.counts() == (4500, 4500)
    assert bench.counts("dead_letters") == (0, 0)
    asked = "SELECT channel, score, tags, count(), uniqExact(event_id) FROM interactions_once GROUP BY ALL ORDER BY channel"
    assert bench.rows(asked) == [("tel", 2.5, ["a", "b"], 1500, 1500), ("web", 0.5, ["none"], 3000, 3000)]
    in_order = bench.rows(f"SELECT _offset - min(_offset) OVER () = producer_seq FROM interactions WHERE _partition = {MIXED}")
    assert set(in_order) == {(1,)}, "every record stands at its own coordinates"


def count_of(bench: Bench, condition: str) -> int:
    [(count,)] = bench.rows(f"SELECT count() FROM interactions WHERE {condition}")
    return int(count)


READ = {
    "a_bytes": "hex({})",
    "a_fixed": "hex({})",
    "a_micros": "toUnixTimestamp64Micro({})",
    "an_early_micros": "toUnixTimestamp64Micro({})",
    "a_some_time": "toUnixTimestamp64Micro({})",
    "a_millis": "toUnixTimestamp64Milli({})",
    "some_records": "toJSONString({})",
}
"""How a column is read so that it compares with Avro's value."""

OTHER: dict[str, Any] = {
    **dict.fromkeys(ADDED, None),
    **{name: "other" for name, (kind, _) in ADDED.items() if kind == "string"},
    **{name: 6 for name, (_, default) in ADDED.items() if type(default) is int},
    "a_bytes": b"\x07",
    "a_float": 0.25,
    "a_double": 0.25,
    "a_yes": False,
    "a_no": True,
    "an_enum": "WEB",
    "a_fixed": b"\x07\x08",
    "a_uuid": "018f0000-0000-7000-8000-0000000000bb",
    "a_null": "null no more",
    "a_null_time": 6,
    "an_array": ["z"],
    "an_empty_array": [9],
    "an_array_with_null": [None, 4],
    "an_array_of_some": [None, 5],
    "a_map": {"z": 9},
    "an_empty_map": {"z": "9"},
    "some_records": [{"name": "u", "weight": 0.5, "codes": []}, {"name": "v", "weight": None, "codes": [1]}],
}
"""What a writer of the new version says: nowhere the default."""


def as_stored(name: str, value: Any) -> Any:
    """An Avro value as the query of READ gives the column."""
    if value is None:
        return None
    match name:
        case "a_bytes" | "a_fixed":
            return (value if isinstance(value, bytes) else value.encode("latin-1")).hex().upper()
        case "a_uuid":
            return UUID(value)
        case "a_date" | "an_early_date":
            return date.fromordinal(date(1970, 1, 1).toordinal() + value)
        case _:
            return value


def test_an_absent_field_of_every_type_reads_as_avro_resolves_it(bench: Bench, tmp_path: Path) -> None:
    """Rows from before the migration, rows of the old version from after it, and rows of the new version beside them."""
    [old, _] = interactions(bench, 2)
    bench.produce([old])
    bench.drain()
    apply_plan(bench, tmp_path, ADDED)
    schema_id = register(bench, ADDED)
    bench.produce([*interactions(bench, 1, first=1), frame(schema_id, old[HEADER_BYTES:] + datum(OTHER, ADDED))])
    bench.drain()

    readers = parse_physical(schema_with("Interaction", ADDED))
    writers = parse_physical(contract("Interaction").versions[0].schema)
    resolved: dict[str, Any] = fastavro.schemaless_reader(BytesIO(old[HEADER_BYTES:]), writers, readers)  # type: ignore[assignment]
    absent, said = ({name: as_stored(name, values[name]) for name in ADDED} for values in (resolved, OTHER))
    columns = ", ".join(READ.get(name, "{}").format(name) for name in ADDED)
    with closing(bench.warehouse()) as client:
        rows = client.query(f"SELECT {columns} FROM interactions ORDER BY _schema_id, _kafka_time").result_rows
    stored = [{name: read(name, value) for name, value in zip(ADDED, row, strict=True)} for row in rows]

    assert bench.counts("dead_letters") == (0, 0)
    assert stored == [absent, absent, said]


def read(name: str, value: Any) -> Any:
    if name == "some_records":
        return json.loads(value)
    if name == "a_null_time" and value is not None:
        return round(value.timestamp() * 1_000_000)
    return value
