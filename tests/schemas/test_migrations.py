import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli import main
from schemas import migrations
from schemas.compatibility import check
from schemas.contracts import AVRO_DIRECTORY
from schemas.migrations import plan_migration, write
from schemas.tables import WAREHOUSE_DIRECTORY, load_migrations, load_tables
from tests.schemas.added_fields import ADDED, contracts_with

CHANNEL = {"channel": ("string", "web")}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    directory = tmp_path / "warehouse"
    shutil.copytree(WAREHOUSE_DIRECTORY, directory)
    return directory


def test_the_packaged_contracts_need_no_migration() -> None:
    plan = plan_migration()

    assert (plan.additions, plan.migration, plan.findings) == ((), None, ())


def test_an_added_field_becomes_a_column_with_its_default_in_the_next_file(tmp_path: Path, warehouse: Path) -> None:
    avro = contracts_with(tmp_path, "Interaction", CHANNEL)
    plan = plan_migration(avro, warehouse)

    assert plan.migration is not None
    assert plan.file_name == f"{load_migrations(warehouse)[-1].number + 1:04d}_interaction_v2.sql"
    assert "ALTER TABLE interactions\n    ADD COLUMN IF NOT EXISTS channel String DEFAULT 'web';\n" in plan.migration.text


def test_every_type_is_planned_as_the_gate_wants_it_and_a_second_plan_is_empty(tmp_path: Path, warehouse: Path) -> None:
    avro = contracts_with(tmp_path, "RecommendationServed", ADDED)
    assert any("no such column" in finding.message for finding in check(avro, warehouse))
    plan = plan_migration(avro, warehouse)
    assert plan.migration is not None, plan.findings

    written = write(plan.migration, warehouse)

    assert written.name == plan.file_name == f"{plan.migration.number:04d}_recommendation_served_v2.sql"
    assert check(avro, warehouse) == []
    assert load_tables(warehouse)["recommendations"].keys() >= ADDED.keys()
    again = plan_migration(avro, warehouse)
    assert (again.additions, again.migration) == ((), None)
    with pytest.raises(FileExistsError):
        write(plan.migration, warehouse)


def test_the_views_over_all_columns_of_a_grown_table_are_made_again_and_no_others(tmp_path: Path, warehouse: Path) -> None:
    plan = plan_migration(contracts_with(tmp_path, "Interaction", CHANNEL), warehouse)
    assert plan.migration is not None

    made = [statement.partition(" AS")[0] for statement in plan.migration.statements if "VIEW" in statement]

    assert made == ["CREATE OR REPLACE VIEW interactions_once"]


def test_a_view_over_a_view_is_made_again_after_it(tmp_path: Path, warehouse: Path) -> None:
    (warehouse / f"{load_migrations(warehouse)[-1].number + 1:04d}_clicks.sql").write_text(
        "CREATE VIEW clicks AS\nSELECT *\nFROM interactions_once\nWHERE kind = 'click';\n"
    )
    plan = plan_migration(contracts_with(tmp_path, "Interaction", CHANNEL), warehouse)
    assert plan.migration is not None

    made = [statement.partition(" AS")[0].split()[-1] for statement in plan.migration.statements if "VIEW" in statement]

    assert made == ["interactions_once", "clicks"]


def grown_slots(tmp_path: Path) -> Path:
    avro = tmp_path / "avro"
    shutil.copytree(AVRO_DIRECTORY, avro)
    schema = json.loads((avro / "RecommendationServed.v1.avsc").read_text())
    slots = next(field for field in schema["fields"] if field["name"] == "slots")
    slots["type"]["items"]["fields"].append({"name": "price", "type": ["null", "double"], "default": None})
    (avro / "RecommendationServed.v2.avsc").write_text(json.dumps(schema))
    return avro


def test_a_nested_record_that_grew_is_refused_and_nothing_is_planned(tmp_path: Path, warehouse: Path) -> None:
    plan = plan_migration(grown_slots(tmp_path), warehouse)

    assert plan.migration is None
    assert "slots: the nested record differs" in "\n".join(f"{finding.where}: {finding.message}" for finding in plan.findings)


@pytest.mark.parametrize(
    ("kind", "default", "said"),
    [
        ("int", "five", "no default of the type"),
        ("long", True, "no default of the type"),
        ("bytes", "€", "a code point is over 255"),
        (["null", "string"], "other branch", "whose first branch is null"),
        ({"type": "array", "items": ["null", "int"]}, [4], "whose first branch is null"),
        (["string", "null"], None, "no default of the type"),
        (["null", "string", "long"], None, "is not null and one type"),
        ({"type": "int", "logicalType": "time-millis"}, 0, "is not taken"),
    ],
)
def test_what_no_column_can_hold_is_refused(tmp_path: Path, warehouse: Path, kind: Any, default: Any, said: str) -> None:
    plan = plan_migration(contracts_with(tmp_path, "Interaction", {"odd": (kind, default)}), warehouse)

    assert plan.migration is None
    assert said in "\n".join(finding.message for finding in plan.findings)


@pytest.fixture
def command(tmp_path: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`tailrace schemas migrate` in a checkout whose Interaction has a second version."""
    avro = contracts_with(tmp_path, "Interaction", CHANNEL)
    monkeypatch.setattr(migrations.plan_migration, "__defaults__", (avro, warehouse))
    monkeypatch.setattr(migrations.write, "__defaults__", (warehouse,))
    return lambda *arguments: CliRunner().invoke(main, ["schemas", "migrate", *arguments])


@pytest.mark.parametrize("options", [(), ("--plan",)])
def test_the_command_prints_the_plan_and_writes_nothing(command: Any, warehouse: Path, options: tuple[str, ...]) -> None:
    before = sorted(warehouse.iterdir())
    done = command(*options)

    assert done.exit_code == 0
    assert "ADD COLUMN IF NOT EXISTS channel String DEFAULT 'web';" in done.output
    assert sorted(warehouse.iterdir()) == before


def test_write_puts_the_file_there_for_review_and_then_nothing_is_to_do(command: Any, warehouse: Path) -> None:
    planned = json.loads(command("--plan", "--json").output)
    written = json.loads(command("--write", "--json").output)

    assert (planned["written"], written["written"]) == (False, True)
    assert (warehouse / planned["file"]).read_text() == planned["sql"] == written["sql"]
    assert "nothing to do" in command("--write").output


def test_the_command_refuses_with_1_and_names_why(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del command
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(migrations.plan_migration, "__defaults__", (grown_slots(tmp_path / "other"), WAREHOUSE_DIRECTORY))

    plain, as_json = (CliRunner().invoke(main, ["schemas", "migrate", *options]) for options in ((), ("--json",)))

    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert "slots: the nested record differs" in plain.output
    assert json.loads(as_json.output)["ok"] is False


def test_to_plan_and_to_write_at_once_is_wrong_usage(command: Any) -> None:
    assert command("--plan", "--write").exit_code == 2
