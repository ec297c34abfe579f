"""Commands that the demo starts: what they say when they fail, and that none is left."""

import os
from pathlib import Path

import pytest

from deploy.demo.commands import Commands
from deploy.demo.errors import DemoFailed
from schemas.errors import PartUnreachable

NOTHING_THERE = {
    "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1/apis/ccompat/v7",
    "TAILRACE_WAREHOUSE_URL": "http://writer:secret@127.0.0.1:1/tailrace",
}
TIMEOUT_S = 60


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    return Commands({**variables, **NOTHING_THERE, "TAILRACE_HOME": str(tmp_path)}, tmp_path / "logs")


def test_a_command_that_ends_well_is_waited_for(commands: Commands) -> None:
    with commands.start("schemas", "check") as checking:
        checking.wait(TIMEOUT_S)

    assert "the contracts may be released" in checking.said()


def test_a_missing_part_is_told_in_the_words_of_the_command(commands: Commands) -> None:
    with commands.start("scorecard", "obd-all") as asking, pytest.raises(PartUnreachable, match=r"127\.0\.0\.1:1") as missing:
        asking.wait(TIMEOUT_S)

    assert "secret" not in str(missing.value)
    assert missing.value.what == "`tailrace scorecard obd-all`"


def test_another_failure_is_told_with_its_code(commands: Commands) -> None:
    with commands.start("no-such-command") as failing, pytest.raises(DemoFailed, match="ended with 2"):
        failing.wait(TIMEOUT_S)


def test_a_command_that_hangs_is_told_and_ended(commands: Commands, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text('{"surfaces": {"home": {"items": [{"item_id": "a"}]}}}')
    variables = {"TAILRACE_CATALOGUE_FILE": str(catalogue), "TAILRACE_DRAIN_MS": "0"}
    serving = Commands({**commands.variables, **variables}, commands.logs)

    with serving.start("serve", "--port", "0") as worker:
        with pytest.raises(PartUnreachable, match="did not end within"):
            worker.wait(0.2)
        worker.refuse_end()

    assert worker.has_ended()
    with pytest.raises(DemoFailed, match="before it was told to"):
        worker.refuse_end()
