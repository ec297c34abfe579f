import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.compatibility import check
from schemas.contracts import AVRO_DIRECTORY, load_contracts, release
from schemas.errors import ContractError
from schemas.tables import WAREHOUSE_DIRECTORY, load_migrations
from tests.schemas.record_strategies import EVENT_TYPES


@pytest.fixture
def avro(tmp_path: Path) -> Path:
    """A copy of the contracts in which the first versions are released."""
    directory = tmp_path / "avro"
    shutil.copytree(AVRO_DIRECTORY, directory)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.v1.avsc")}
    (directory / "released.json").write_text(json.dumps(sums))
    return directory


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    directory = tmp_path / "warehouse"
    shutil.copytree(WAREHOUSE_DIRECTORY, directory)
    return directory


def add_version(avro: Path, record: str, **changes: Any) -> None:
    """A second version: `add` a field, `drop` a name, or `change` a name to another type."""
    schema = json.loads((avro / f"{record}.v1.avsc").read_text())
    fields = [field for field in schema["fields"] if field["name"] != changes.get("drop")]
    for field in fields:
        if field["name"] == changes.get("change"):
            field["type"] = changes["to"]
    schema["fields"] = fields + ([changes["add"]] if "add" in changes else [])
    (avro / f"{record}.v2.avsc").write_text(json.dumps(schema))


def add_migration(warehouse: Path, sql: str) -> None:
    number = load_migrations(warehouse)[-1].number + 1
    (warehouse / f"{number:04}_more.sql").write_text(sql)


def messages(avro: Path, warehouse: Path = WAREHOUSE_DIRECTORY) -> str:
    return "\n".join(f"{finding.where}: {finding.message}" for finding in check(avro, warehouse))


def test_the_packaged_contracts_pass_the_gate() -> None:
    assert check() == []


def test_the_dataclasses_have_the_fields_of_their_schemas() -> None:
    contracts = load_contracts()
    assert {record_type.__name__ for record_type in EVENT_TYPES} == contracts.keys()
    for record_type in EVENT_TYPES:
        schema = contracts[record_type.__name__].newest.schema
        assert {field.name for field in dataclasses.fields(record_type)} == {field["name"] for field in schema["fields"]}


def test_a_defaulted_field_with_its_column_is_taken(avro: Path, warehouse: Path) -> None:
    add_version(avro, "Interaction", add={"name": "channel", "type": "string", "default": "web"})
    add_migration(warehouse, "ALTER TABLE interactions\n    ADD COLUMN channel LowCardinality(String) DEFAULT 'web';\n")

    assert messages(avro, warehouse) == ""


def test_a_field_without_a_column_is_refused(avro: Path) -> None:
    add_version(avro, "Interaction", add={"name": "channel", "type": "string", "default": "web"})

    assert "channel: the table interactions has no such column" in messages(avro)


def test_a_column_with_another_default_is_refused(avro: Path, warehouse: Path) -> None:
    add_version(avro, "Interaction", add={"name": "channel", "type": "string", "default": "web"})
    add_migration(warehouse, "ALTER TABLE interactions\n    ADD COLUMN channel LowCardinality(String);\n")

    assert "absent fields would change" in messages(avro, warehouse)


def test_a_field_without_a_default_is_refused(avro: Path, warehouse: Path) -> None:
    add_version(avro, "Interaction", add={"name": "channel", "type": "string"})
    add_migration(warehouse, "ALTER TABLE interactions\n    ADD COLUMN channel String;\n")

    assert "v2.avsc cannot read Interaction.v1.avsc" in messages(avro, warehouse)


def test_a_field_that_is_gone_is_refused(avro: Path) -> None:
    add_version(avro, "Interaction", drop="surface")

    assert "v1.avsc cannot read Interaction.v2.avsc" in messages(avro)


def test_another_type_is_refused_by_readers_and_by_the_warehouse(avro: Path) -> None:
    add_version(avro, "Interaction", change="producer_seq", to="string")

    assert "cannot read" in messages(avro)
    assert "the column is Int64, the field needs String" in messages(avro)


@pytest.mark.parametrize(
    "kind",
    [
        ["null", "string", "long"],
        {"type": "int", "logicalType": "time-millis"},
        {"type": "record", "name": "Inner", "fields": []},
        ["null", {"type": "array", "items": "string"}],
    ],
)
def test_types_that_the_warehouse_cannot_take_are_refused(avro: Path, kind: Any) -> None:
    default = None if isinstance(kind, list) else 0
    add_version(avro, "Alert", add={"name": "odd", "type": kind, "default": default})

    assert "odd: the warehouse cannot take it" in messages(avro)


def test_a_nested_record_keeps_its_fields(avro: Path) -> None:
    schema = json.loads((avro / "RecommendationServed.v1.avsc").read_text())
    slots = next(field for field in schema["fields"] if field["name"] == "slots")
    slots["type"]["items"]["fields"].append({"name": "price", "type": ["null", "double"], "default": None})
    (avro / "RecommendationServed.v2.avsc").write_text(json.dumps(schema))

    assert "slots: the nested record differs" in messages(avro)


def test_a_released_schema_cannot_be_edited(avro: Path) -> None:
    path = avro / "Interaction.v1.avsc"
    path.write_text(path.read_text().replace("What a unit", "What any unit") + " ")

    with pytest.raises(ContractError, match="a released schema has changed"):
        load_contracts(avro)


def test_a_released_schema_cannot_go(avro: Path) -> None:
    (avro / "Interaction.v1.avsc").unlink()

    with pytest.raises(ContractError, match="a released schema is gone"):
        load_contracts(avro)


def test_releasing_freezes_what_is_not_frozen_yet_and_nothing_else(avro: Path) -> None:
    before = (avro / "released.json").read_text()
    add_version(avro, "Alert", add={"name": "note", "type": ["null", "string"], "default": None})

    assert release(avro) == ["Alert.v2.avsc"]
    assert release(avro) == []
    assert json.loads(before).items() < json.loads((avro / "released.json").read_text()).items()
    (avro / "Alert.v2.avsc").write_text("{}")
    with pytest.raises(ContractError, match="a released schema has changed"):
        load_contracts(avro)


def test_versions_have_no_gap(avro: Path) -> None:
    shutil.copy(avro / "Alert.v1.avsc", avro / "Alert.v3.avsc")

    with pytest.raises(ContractError, match="without a gap"):
        load_contracts(avro)
