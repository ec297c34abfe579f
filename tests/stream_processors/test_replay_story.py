"""The runbook's stories, by the commands that it names."""

from pathlib import Path

import pytest

from tests.stream_processors.replay_fixture import asked, checksum, filled, planned, tailrace
from tests.stream_processors.warehouse_fixture import Bench, interactions

pytestmark = pytest.mark.integration

BY_ITEM = """
-- table: events_by_item
-- source: interactions
-- order by: item_id
SELECT item_id, groupUniqArray(event_id) AS event_ids FROM {source} GROUP BY item_id
"""


def test_a_bad_deploy_is_repaired_by_plan_run_verify_and_swap_and_comes_back_by_rollback(bench: Bench) -> None:
    bench.produce(interactions(bench, 600))
    bench.drain()
    good = checksum(bench, "interactions")
    settings = "SETTINGS mutations_sync = 2"
    bench.command_sql(f"ALTER TABLE interactions UPDATE item_id = 'spoilt' WHERE _offset BETWEEN 20 AND 90 {settings}")
    bench.command_sql(f"ALTER TABLE interactions DELETE WHERE _offset BETWEEN 30 AND 35 {settings}")
    spoilt = bench.rows("SELECT toString(tuple(*)) AS row FROM interactions ORDER BY row")

    run = filled(bench)
    assert asked(bench, "replay", "verify", run).code == 1
    refused = asked(bench, "replay", "swap", run)
    assert refused.code == 1
    assert "--force REASON" in refused.err
    swapped = asked(bench, "replay", "swap", run, "--force", "these are the rows of the bad deploy", "--json")
    assert swapped.fields["result"] == "swapped"
    assert checksum(bench, "interactions") == good
    assert bench.counts() == (600, 600)
    assert "these are the rows of the bad deploy" in asked(bench, "replay", "show", run).out

    assert asked(bench, "replay", "rollback", run, "--json").fields["result"] == "rolled_back"
    assert bench.rows("SELECT toString(tuple(*)) AS row FROM interactions ORDER BY row") == spoilt
    assert asked(bench, "replay", "prune", run).code == 0
    assert asked(bench, "replay", "swap", run).code == 1


def test_a_metric_thought_of_today_has_days_that_only_the_log_has(bench: Bench, tmp_path: Path) -> None:
    bench.produce(interactions(bench, 200))
    bench.drain()
    (tmp_path / "by_item.sql").write_text(BY_ITEM)
    run = planned(bench, "--derive", str(tmp_path / "by_item.sql"))
    assert asked(bench, "derive", "apply", "--run", run).code == 1, "it is not filled"
    assert tailrace(bench, "replay", "run", run).code == 0
    bench.command_sql("TRUNCATE TABLE interactions")
    assert "derive apply --run" in asked(bench, "replay", "swap", run).err

    [built] = asked(bench, "derive", "apply", "--run", run, "--json").fields["built"]

    assert (built["rows"], built["built_from"][:8]) == (7, "replay_r")
    [(events, different)] = bench.rows("SELECT sum(length(event_ids)), uniqExactArray(event_ids) FROM events_by_item")
    assert events == different == 200
    assert asked(bench, "derive", "refresh", "--json").fields == {"built": []}


def test_a_plan_with_a_definition_that_nobody_can_take_is_wrong_usage(bench: Bench, tmp_path: Path) -> None:
    wrong = {
        "is derived from": BY_ITEM.replace("source: interactions", "source: recommendations"),
        "the warehouse says": BY_ITEM.replace("event_id)", "nothing)"),
        "{source}": BY_ITEM.replace("{source}", "interactions"),
    }
    for said, text in wrong.items():
        (tmp_path / "wrong.sql").write_text(text)
        plan = asked(
            bench, "replay", "plan", "--topic", "interactions", "--from", "beginning", "--derive", f"{tmp_path}/wrong.sql"
        )
        assert plan.code == 2
        assert said in plan.err
    assert asked(bench, "replay", "list", "--json").fields["runs"] == []
