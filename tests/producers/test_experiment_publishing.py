"""Publishing experiments: through the publisher, and through the command."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import main
from producers.errors import PublishError, SchemaUnavailable
from producers.experiment_publisher import ExperimentPublisher
from producers.memory_transport import MemoryTransport
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.events import ExperimentDefinition
from schemas.topics import EXPERIMENTS
from tests.producers.event_samples import KnownSchemaIds
from tests.producers.kafka_log import Log
from tests.schemas.experiment_samples import DEFINITION, DOCUMENT


def decoded(value: bytes | None) -> ExperimentDefinition:
    return Codec(ExperimentDefinition).decode(value, parse_physical(contract("ExperimentDefinition").newest.schema))


def test_every_revision_has_its_own_key() -> None:
    transport = MemoryTransport()
    definitions = [DEFINITION, replace(DEFINITION, revision=2)]
    ExperimentPublisher(transport, KnownSchemaIds()).publish(definitions, 1.0)
    assert [(record.topic, record.key) for record in transport.records] == [
        ("tailrace.experiments", b"ab-1:1"),
        ("tailrace.experiments", b"ab-1:2"),
    ]
    assert [decoded(record.value) for record in transport.records] == definitions


def test_publishing_waits_for_room() -> None:
    transport = MemoryTransport(records_max=1)
    ExperimentPublisher(transport, KnownSchemaIds()).publish([DEFINITION] * 5, 1.0)
    assert len(transport.records) == 5


def test_what_is_not_acknowledged_in_time_is_an_error() -> None:
    publisher = ExperimentPublisher(MemoryTransport(reachable=False), KnownSchemaIds())
    with pytest.raises(PublishError, match="1 revisions were not acknowledged"):
        publisher.publish([DEFINITION], 0.05)


def test_nothing_is_sent_while_the_schema_is_not_known() -> None:
    transport = MemoryTransport()
    with pytest.raises(SchemaUnavailable):
        ExperimentPublisher(transport, KnownSchemaIds(up=False)).publish([DEFINITION], 1.0)
    assert transport.in_flight() == 0
    assert transport.records == []


def test_the_command_names_every_problem_and_publishes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps([{**DOCUMENT, "owner": ""}, {**DOCUMENT, "revision": 2, "arms": []}]), encoding="utf-8")
    variables = {"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"}
    result = CliRunner().invoke(main, ["experiments", "publish", str(path), "--json"], env=variables)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "published": [],
        "problems": ["ab-1:1: owner is empty", "ab-1:2: has fewer than two arms"],
    }
    plain = CliRunner().invoke(main, ["experiments", "publish", str(path)], env=variables)
    assert plain.exit_code == 1
    assert "ab-1:2: has fewer than two arms" in plain.stderr


def test_the_command_says_which_part_is_away(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    variables = {"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"}
    result = CliRunner().invoke(main, ["experiments", "publish", str(path)], env=variables)
    assert result.exit_code == 3
    assert "http://127.0.0.1:1" in result.stderr


@pytest.mark.integration
def test_the_command_publishes_to_the_topic(installation: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    result = CliRunner().invoke(main, ["experiments", "publish", str(path), "--json"], env=dict(installation))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"published": ["ab-1:1"], "problems": []}
    assert Log(installation).read(ExperimentDefinition, EXPERIMENTS) == [DEFINITION]
