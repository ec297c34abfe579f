"""The snapshot of experiments that serving keeps."""

import json
from pathlib import Path

from serving_worker.experiments.definitions import ExperimentFile
from tests.schemas.experiment_samples import DOCUMENT


def test_a_changed_file_replaces_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    experiments = ExperimentFile(path)
    assert experiments.snapshot() is None
    assert experiments.reload()
    first = experiments.snapshot()
    assert first is not None
    assert [layer.layer_id for layer in first.layers] == ["ranking"]
    assert not experiments.reload()
    path.write_text(json.dumps([DOCUMENT, {**DOCUMENT, "revision": 2}]), encoding="utf-8")
    assert experiments.reload()
    second = experiments.snapshot()
    assert second is not None
    assert [revision.revision for revision in second.layers[0].experiments[0]] == [1, 2]


def test_the_last_good_copy_outlives_a_file_that_turns_bad_or_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    experiments = ExperimentFile(path)
    experiments.reload()
    good = experiments.snapshot()
    path.write_text(json.dumps({**DOCUMENT, "arms": []}), encoding="utf-8")
    assert experiments.reload()
    assert "fewer than two arms" in str(experiments.problem)
    assert experiments.snapshot() is good
    path.unlink()
    assert experiments.reload()
    assert str(path) in str(experiments.problem)
    assert experiments.snapshot() is good
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    assert experiments.reload()
    assert experiments.problem is None


def test_an_installation_without_experiments_has_an_empty_snapshot() -> None:
    experiments = ExperimentFile(None)
    assert not experiments.reload()
    snapshot = experiments.snapshot()
    assert snapshot is not None
    assert snapshot.layers == ()
