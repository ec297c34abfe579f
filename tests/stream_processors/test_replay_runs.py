"""Manifests as JSON, and the log of a run in a real warehouse."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from schemas.envelope import RUN_BYTES_MAX
from stream_processors.replay.manifest import Asked, Estimate, Manifest, Missing, PartitionRange, Piece, PieceSource, Transform
from stream_processors.replay.runs import RunStore, State, this_process
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from tests.stream_processors.warehouse_fixture import Bench


def manifest(run: str = "r1123-7f3a9c") -> Manifest:
    pieces = (Piece(PieceSource.ARCHIVE, 10, 40), Piece(PieceSource.KAFKA, 40, 90))
    return Manifest(
        run=run,
        topic="tailrace.interactions",
        topic_id=UUID(int=7),
        record="Interaction",
        table="interactions",
        ranges=(PartitionRange(0, 0, 90, pieces, (Missing(0, 10, "expired"),)), PartitionRange(3, 5, 6, (pieces[1],))),
        asked=Asked("2026-11-01", "now", source="auto", allow_missing=True),
        schema_ids=(3, 9),
        table_sha256="ab",
        code="0.1.0",
        estimate=Estimate(130, 26_000, 0.5),
        select="upper(surface) AS surface",
        transform=Transform("module:function", "cd"),
    )


def test_a_manifest_comes_back_from_its_json_and_has_the_same_bytes_again() -> None:
    text = manifest().as_json()

    assert Manifest.from_json(text) == manifest()
    assert Manifest.from_json(text).as_json() == text


def test_a_manifest_says_what_can_be_read_and_what_is_missing() -> None:
    found = manifest()

    assert (found.offsets, found.missing, found.plain) == (130, 10, False)
    assert found.run_table == "replay_r1123_7f3a9c"


def test_a_runs_name_that_no_envelope_holds_is_refused() -> None:
    with pytest.raises(AssertionError, match="longer than"):
        manifest("r" * (RUN_BYTES_MAX + 1))


@pytest.fixture
def store(bench: Bench) -> Iterator[RunStore]:
    writer = ClickHouseWriter(bench.environment["TAILRACE_WAREHOUSE_URL"], {}, 1000)
    yield RunStore(writer)
    writer.close()


@pytest.mark.integration
def test_a_run_is_what_its_log_says(store: RunStore) -> None:
    store.save(manifest())
    store.save(manifest("r1123-000000"))
    planned = store.get("r1123-7f3a9c")
    store.append("r1123-7f3a9c", State.RUNNING)
    store.append("r1123-7f3a9c", State.FILLED, {"rows": 130})
    filled = store.get("r1123-7f3a9c")

    assert planned is not None
    assert (planned.manifest, planned.state, planned.steps) == (manifest(), State.PLANNED, ())
    assert filled is not None
    assert filled.state is State.FILLED
    assert [(step.seq, step.step, step.detail, step.host_pid) for step in filled.steps] == [
        (1, "running", {}, this_process()),
        (2, "filled", {"rows": 130}, this_process()),
    ]
    assert sorted((run.manifest.run, run.state) for run in store.all()) == [
        ("r1123-000000", State.PLANNED),
        ("r1123-7f3a9c", State.FILLED),
    ]
    assert store.get("r1123-nobody") is None
    assert store.get("") is None
