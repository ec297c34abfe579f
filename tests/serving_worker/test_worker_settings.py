import json
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from serving_worker.catalogue import load_catalogue
from serving_worker.config import WorkerSettings
from serving_worker.http.keys import load_keys


def test_settings_come_from_the_environment() -> None:
    settings = WorkerSettings.from_environment(
        {
            "TAILRACE_CATALOGUE_FILE": "catalogue.json",
            "TAILRACE_EXPERIMENTS_FILE": "experiments.json",
            "TAILRACE_HTTP_PORT": "0",
            "TAILRACE_CONTEXT_KEYS": "country, device",
            "TAILRACE_SERVING_SEED": "0",
            "TAILRACE_K_MAX": "5",
        }
    )
    assert (settings.catalogue_file, settings.experiments.file) == (Path("catalogue.json"), Path("experiments.json"))
    assert (settings.port, settings.seed, settings.k_max) == (0, 0, 5)
    assert settings.context_keys == frozenset({"country", "device"})


def test_without_a_seed_the_worker_chooses_one_and_without_experiments_there_are_none() -> None:
    settings = WorkerSettings.from_environment({"TAILRACE_CATALOGUE_FILE": "catalogue.json"})
    assert (settings.seed, settings.experiments.file) == (None, None)


def test_unless_it_is_told_otherwise_a_worker_drains_and_ends_before_kubernetes_kills_it() -> None:
    settings = WorkerSettings.from_environment({"TAILRACE_CATALOGUE_FILE": "catalogue.json"})
    assert settings.drain_s == 5
    assert settings.drain_s + 2 * settings.shutdown_s < 30


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        WorkerSettings.from_environment({"TAILRACE_HTTP_PORT": "70000", "TAILRACE_K_MAX": "many"})
    named = " ".join(refusal.value.problems)
    assert all(name in named for name in ("TAILRACE_CATALOGUE_FILE", "TAILRACE_HTTP_PORT", "TAILRACE_K_MAX"))


def test_experiments_are_looked_at_often_enough_for_a_stop_to_count_within_two_seconds() -> None:
    catalogue = {"TAILRACE_CATALOGUE_FILE": "catalogue.json"}
    slowest = WorkerSettings.from_environment({**catalogue, "TAILRACE_EXPERIMENTS_RELOAD_MS": "1000"})
    assert slowest.experiments.reload_s == 1.0
    with pytest.raises(ConfigurationError, match="TAILRACE_EXPERIMENTS_RELOAD_MS=1001 is not within 10 and 1000"):
        WorkerSettings.from_environment({**catalogue, "TAILRACE_EXPERIMENTS_RELOAD_MS": "1001"})


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("{", "truncated"),
        ('{"surfaces": {}}', "length >= 1"),
        ('{"surfaces": {"home": {"items": []}}}', "length >= 1"),
        ('{"surfaces": {"home": {"items": [{"score": 1}]}}}', "item_id"),
        (json.dumps({"surfaces": {"home": {"items": [{"item_id": "a"}, {"item_id": "a"}]}}}), "'home' has an item twice"),
        ('{"surfaces": {"home": {"items": [{"item_id": "a", "scroe": 1}]}}}', "`scroe`"),
        ('{"surfaces": {"home": {"items": [{"item_id": "a"}], "candidates_set_id": "spring"}}}', "`candidates_set_id`"),
        ('{"surfaces": {"home": {"items": [{"item_id": "a"}]}}, "surface": {}}', "`surface`"),
    ],
)
def test_a_catalogue_that_cannot_be_served_is_a_wrong_setting(tmp_path: Path, document: str, fault: str) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(document, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="TAILRACE_CATALOGUE_FILE") as refusal:
        load_catalogue(path)
    assert fault in str(refusal.value)


@pytest.mark.parametrize("misspelt", ["surface", "Surfaces"])
def test_a_key_whose_surfaces_are_misspelt_is_a_wrong_setting_and_does_not_open_them_all(tmp_path: Path, misspelt: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"name": "shop", "sha256": "0" * 64, misspelt: ["home"]}]}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"TAILRACE_API_KEYS_FILE.*`{misspelt}`"):
        load_keys(path)


def test_a_catalogue_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_catalogue(tmp_path / "nowhere.json")
