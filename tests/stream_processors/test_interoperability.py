"""Any Confluent Avro client can write to our topics and read from them; the tables hold what it wrote, field by field."""

import dataclasses
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import fastavro
import pytest
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import HealthCheck, Phase, given, settings

from schemas.codec import Codec, parse_physical
from schemas.contracts import contract, load_contracts
from schemas.events import Interaction, RecommendationServed, ShadowRanking
from schemas.tables import TABLE_OF_RECORD, load_tables
from schemas.topics import TOPICS
from tests.schemas.record_strategies import records
from tests.stream_processors.warehouse_fixture import Bench

pytestmark = pytest.mark.integration

SAMPLES = 60
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def samples(record_type: type[Any]) -> list[Any]:
    """Records random in every field; times within what a datetime holds, for the peers make datetimes of them."""
    found: list[Any] = []

    @settings(max_examples=SAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(records(record_type))
    def collect(record: Any) -> None:
        found.append(_within_the_calendar(record))

    collect()
    return found


def _within_the_calendar(record: Any) -> Any:
    times = [field.name for field in dataclasses.fields(record) if field.name.endswith("_at")]
    limited = {name: value % 10**15 for name in times if (value := getattr(record, name)) is not None}
    return dataclasses.replace(record, **limited)


def context(bench: Bench, record_type: type[Any]) -> SerializationContext:
    [topic] = [topic for topic in TOPICS if topic.record == record_type.__name__]
    return SerializationContext(bench.topic(topic.name), MessageField.VALUE)


@pytest.mark.parametrize("record_type", [RecommendationServed, Interaction, ShadowRanking])
def test_what_confluents_serializer_writes_lands_field_by_field(bench: Bench, record_type: type[Any]) -> None:
    written = samples(record_type)
    where = context(bench, record_type)
    options = {"auto.register.schemas": False, "use.latest.version": False, "subject.name.strategy.type": "TOPIC"}
    with bench.registry() as registry:
        serialize = AvroSerializer(registry, contract(record_type.__name__).newest.text, conf=options)
        values = [serialize(dataclasses.asdict(record), where) for record in written]
    bench.produce(values, where.topic)

    bench.drain()

    table = TABLE_OF_RECORD[record_type.__name__]
    assert bench.counts("dead_letters") == (0, 0)
    assert bench.counts(table) == (len(written), len(written))
    assert sorted(stored(bench, record_type, table), key=repr) == sorted(written, key=repr)


def stored(bench: Bench, record_type: type[Any], table: str) -> list[Any]:
    """The table's rows as records. The engine writes Avro itself; what it writes is read by another library."""
    schema = contract(record_type.__name__).newest.schema
    columns = ", ".join(_plain(field) for field in schema["fields"])
    client = bench.warehouse()
    try:
        answer = client.raw_query(
            f"SELECT {columns} FROM {table}",
            fmt="Avro",
            settings={"output_format_avro_codec": "null", "output_format_avro_string_column_pattern": ".*"},
        )
    finally:
        client.close()
    rows = list(fastavro.reader(BytesIO(answer)))
    return [_record(record_type, row) for row in rows]


def _plain(field: dict[str, Any]) -> str:
    """A column as Avro's plain types: times as integers, nested records as they are."""
    name = field["name"]
    if "timestamp-micros" in str(field["type"]):
        return f"toUnixTimestamp64Micro({name}) AS {name}"
    return f"toString({name}) AS {name}" if "uuid" in str(field["type"]) else name


def _record(record_type: type[Any], row: Any) -> Any:
    codec: Codec[Any] = Codec(record_type)
    physical = parse_physical(contract(record_type.__name__).newest.schema)
    buffer = BytesIO(b"\x00\x00\x00\x00\x01")
    buffer.seek(5)
    fastavro.schemaless_writer(buffer, physical, row)
    return codec.decode(buffer.getvalue(), physical)


@pytest.mark.parametrize("record_type", [RecommendationServed, Interaction, ShadowRanking])
def test_confluents_deserializer_reads_what_our_codec_writes(bench: Bench, record_type: type[Any]) -> None:
    codec: Codec[Any] = Codec(record_type)
    schema_id = bench.schema_id(record_type.__name__)
    with bench.registry() as registry:
        deserialize = AvroDeserializer(registry, conf={"subject.name.strategy.type": "TOPIC"})
        for record in samples(record_type):
            fields = deserialize(codec.encode(record, schema_id), context(bench, record_type))

            assert isinstance(fields, dict)
            assert {name: _physical(value) for name, value in fields.items()} == _as_lists(dataclasses.asdict(record))


def _physical(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return str(value) if isinstance(value, UUID) else value


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_lists(item) for name, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_the_engine_has_made_the_columns_that_the_files_declare(bench: Bench) -> None:
    """The contracts' gate reads the SQL without a parser; here the engine says what it understood."""
    rows = bench.rows("SELECT table, name, default_kind, type FROM system.columns WHERE database = currentDatabase()")
    made = {(table, name): (kind, kind_of) for table, name, kind, kind_of in rows}

    for table, columns in load_tables().items():
        assert {name for of_table, name in made if of_table == table} == columns.keys()
        for column in columns.values():
            kind, made_type = made[table, column.name]
            assert made_type.replace("`", "") == column.type
            assert kind == ("EPHEMERAL" if column.ephemeral else "DEFAULT" if column.default else "")


def test_every_table_takes_every_field_of_its_record(bench: Bench) -> None:
    made = {
        (table, name) for table, name in bench.rows("SELECT table, name FROM system.columns WHERE database = currentDatabase()")
    }

    for record, found in load_contracts().items():
        if (table := TABLE_OF_RECORD.get(record)) is not None:
            assert {(table, field["name"]) for field in found.newest.schema["fields"]} <= made
