"""A scorecard as of some ends: what has come in since changes no figure, in the real warehouse."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analytics import scorecard_json
from analytics.as_of import AsOf
from analytics.config import SHIPPED_METRICS_DIRECTORY
from analytics.metrics_catalog import load_catalog
from analytics.results import Scorecard
from analytics.scorecard import Question, scorecard
from analytics.warehouse import Warehouse
from deploy.cli import main
from schemas.contracts import contract
from schemas.events import Micros
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import BEGAN_AT, SECOND, Ledger, definition

pytestmark = pytest.mark.integration

METRICS = tuple(load_catalog([SHIPPED_METRICS_DIRECTORY]).values())
Ask = Callable[[AsOf | Micros | None], Scorecard]


@pytest.fixture
def ask(warehouse: Warehouse, ledger: Ledger) -> Ask:
    return lambda as_of: scorecard(warehouse, Question(ledger.experiment, METRICS, as_of=as_of))


def write(ingest: Ingest, ledger: Ledger, units: range, at: int) -> None:
    """Some units answered and clicking; only these go in."""
    ledger.served.clear()
    ledger.interactions.clear()
    for number in units:
        ledger.serve(ledger.unit(number), at, "sampled" if number % 2 else "control")
        ledger.act(ledger.unit(number), at + SECOND, "click")
    ingest.write(ledger.served, taken_at=Micros(at))
    ingest.write(ledger.interactions, taken_at=Micros(at + SECOND))


def test_what_came_in_after_changes_no_byte_as_of_the_printed_offsets(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    ingest.write([definition(ledger.experiment)])
    write(ingest, ledger, range(20), BEGAN_AT)
    before = ask(None)

    write(ingest, ledger, range(10, 40), BEGAN_AT + 60 * SECOND)
    after = ask(None)

    assert [arm.counts.units for arm in before.arms] != [arm.counts.units for arm in after.arms]
    assert scorecard_json.render(ask(before.as_of)) == scorecard_json.render(before)
    assert scorecard_json.render(ask(after.as_of)) == scorecard_json.render(after)


def test_another_partition_and_another_topic_are_not_counted_by_ends_that_do_not_name_them(
    ingest: Ingest, installation: Mapping[str, str], ledger: Ledger, ask: Ask
) -> None:
    write(ingest, ledger, range(4), BEGAN_AT)
    before = ask(None)
    elsewhere = Ingest(installation["TAILRACE_WAREHOUSE_URL"], partition=1)
    write(elsewhere, ledger, range(4, 9), BEGAN_AT)
    elsewhere.close()

    assert len(ask(None).as_of.topics) == 2
    assert scorecard_json.render(ask(before.as_of)) == scorecard_json.render(before)


def test_a_moment_is_kafkas_clock_and_the_offsets_that_it_means_are_printed(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    write(ingest, ledger, range(6), BEGAN_AT)
    before = ask(None)
    write(ingest, ledger, range(6, 9), BEGAN_AT + 3600 * SECOND)

    then = ask(Micros(BEGAN_AT + 1800 * SECOND))

    assert scorecard_json.render(then) == scorecard_json.render(before)
    assert then.as_of == before.as_of


def test_rows_of_a_batch_that_is_half_in_are_not_counted_until_what_is_before_them_is_in(
    ingest: Ingest, ledger: Ledger, warehouse: Warehouse
) -> None:
    """The sink inserts the records of one schema before those of another: offsets 0, 1, 4 are in, 2 and 3 are on their way."""
    for number in range(5):
        ledger.act(ledger.unit(number), BEGAN_AT, "click")
    ingest.write(ledger.interactions[:2])
    ingest.write(ledger.interactions[4:], first_offset=4)
    [topic] = warehouse.as_of().topics
    assert topic.ends == {0: 2}

    ingest.write(ledger.interactions[2:4], first_offset=2)
    [topic] = warehouse.as_of().topics
    assert topic.ends == {0: 5}


def test_holes_in_the_definitions_topic_hide_nothing(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    ingest.write([definition(ledger.experiment)], first_offset=1)
    ingest.write([definition(ledger.experiment)], first_offset=3)

    [topic] = warehouse.as_of().topics
    assert topic.ends == {0: 4}


def test_a_dead_letter_that_is_repaired_later_changes_no_earlier_figure(ingest: Ingest, ledger: Ledger, ask: Ask) -> None:
    """Its place lies below the ends of then: 0 and 2 are in, 1 is a dead letter."""
    for number in range(3):
        ledger.serve(ledger.unit(number), BEGAN_AT, "control")
    letter: dict[str, Any] = {"topic": "t", "key": None, "value": b"", "headers": [], "reason": "datum", "error": "it is broken"}
    schema = {**contract("DeadLetter").newest.schema, "doc": ""}
    ingest.write_under(schema, [letter], [BEGAN_AT // 1000], first_offset=1)
    ingest.write(ledger.served[:1], first_offset=0)
    ingest.write(ledger.served[2:], first_offset=2)
    before = ask(None)
    assert (before.arms[0].counts.units, before.completeness.dead_letters) == (2, 1)

    ingest.write(ledger.served[1:2], first_offset=1, run="repaired")
    after = ask(None)

    assert after.arms[0].counts.units == 3
    assert scorecard_json.render(ask(before.as_of)) == scorecard_json.render(before)
    assert scorecard_json.render(ask(after.as_of)) == scorecard_json.render(after)


def test_the_command_takes_a_scorecards_json_back(
    ingest: Ingest, ledger: Ledger, installation: Mapping[str, str], tmp_path: Path
) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["scorecard", ledger.experiment, "--json", *arguments], env=dict(installation))
        assert result.exit_code == 0, result.output
        return result.output

    write(ingest, ledger, range(4), BEGAN_AT)
    first = run()
    (tmp_path / "card.json").write_text(first)
    write(ingest, ledger, range(4, 8), BEGAN_AT)

    assert run("--as-of", str(tmp_path / "card.json")) == first
    assert run("--as-of", json.dumps(json.loads(first)["as_of"])) == first
    assert run() != first


@pytest.mark.parametrize("asked", ["yesterday", "{}", "2999-01-01"])
def test_what_is_neither_ends_nor_a_moment_that_has_come_exits_with_2(asked: str) -> None:
    result = CliRunner().invoke(
        main, ["scorecard", "x", "--as-of", asked], env={"TAILRACE_WAREHOUSE_URL": "http://localhost:1/x"}
    )
    assert result.exit_code == 2, result.output
