"""docs/serving.md says what is so: every setting with its default, files that can be loaded, metrics that are there."""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from producers.config import Durability, ProducerSettings
from producers.main import emitter_from_environment
from producers.metrics import EmitterMetrics
from schemas.environment import Environment
from serving_worker.catalogue import load_catalogue
from serving_worker.config import WorkerSettings
from serving_worker.http.fleet_metrics import Fleet
from serving_worker.http.keys import load_keys
from serving_worker.isolation.breaker import State
from serving_worker.isolation.pool import PoolStatus
from serving_worker.metrics import PolicyMetrics, WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SETTINGS = PAGE.partition("## Settings")[2]
ROW = re.compile(r"^\| `(TAILRACE_\w+)` \| ([^|]+) \|[^|]+\|[^|]+\|$", re.MULTILINE)
VARIABLE = re.compile(r"TAILRACE_[A-Z0-9_]+")
NOWHERE = {"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"}


def variables_of_the_code() -> set[str]:
    """Texts of the serving side's code that are a variable's name, and nothing else."""
    files = [path for folder in ("producers", "serving_worker") for path in (ROOT / folder).rglob("*.py")]
    texts = [node.value for path in files for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and VARIABLE.fullmatch(text)}


def documented() -> dict[str, str]:
    """The default of each variable, as the page has it."""
    return {name: default.strip("`") for name, default in ROW.findall(SETTINGS)}


def json_examples() -> list[str]:
    return re.findall(r"^```json\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_variable_that_the_serving_side_reads_is_in_the_table_and_no_other() -> None:
    assert documented().keys() == variables_of_the_code()
    assert len(ROW.findall(SETTINGS)) == len(documented()), "each once"


def test_the_page_speaks_of_no_variable_that_is_not_read() -> None:
    assert set(VARIABLE.findall(PAGE)) <= variables_of_the_code()


def test_every_default_is_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: dict[str, str | None] = {}
    text = Environment.text

    def noted(self: Environment, name: str, default: str | None = None) -> str:
        defaults[name] = default
        return text(self, name, default)

    monkeypatch.setattr(Environment, "text", noted)
    WorkerSettings.from_environment({"TAILRACE_CATALOGUE_FILE": "catalogue.json"})
    ProducerSettings.from_environment(NOWHERE)
    words = {None: {"required"}, "": {"none", "all", "drawn at the start", "beside the source"}}
    wrong = {name for name, default in defaults.items() if documented()[name] not in words.get(default, {default})}
    assert not wrong
    assert defaults.keys() == documented().keys()


def test_every_mode_of_durability_is_in_the_table_of_what_can_be_lost() -> None:
    head = re.findall(r"^\| `TAILRACE_EMITTER_DURABILITY` \| (.*) \|$", PAGE, re.MULTILINE)[0]
    assert [cell.strip("` ") for cell in head.split("|")] == list(Durability)


def test_the_files_on_the_page_can_be_loaded(tmp_path: Path) -> None:
    catalogue, keys = json_examples()
    (tmp_path / "catalogue.json").write_text(catalogue, encoding="utf-8")
    (tmp_path / "keys.json").write_text(keys, encoding="utf-8")
    assert set(load_catalogue(tmp_path / "catalogue.json").surfaces) == {"home"}
    assert load_keys(tmp_path / "keys.json").required


def metrics_of_a_worker(spool: Path) -> Iterator[str]:
    emitter = emitter_from_environment({**NOWHERE, "TAILRACE_SPOOL_DIR": str(spool)})
    try:
        registry = CollectorRegistry()
        EmitterMetrics(registry, emitter.status)
        WorkerMetrics(registry)
        PolicyMetrics(registry, {"live": lambda: {"policy": PoolStatus((1,), 0, State.CLOSED, 1, 0)}})
        for metric in registry.collect():
            yield metric.name + "_total" if metric.type == "counter" else metric.name
    finally:
        emitter.close(0)
    told_of_a_fleet = asyncio.run(Fleet(CollectorRegistry(), spool).exposition())
    yield from re.findall(r"^# TYPE (\w+)", told_of_a_fleet.decode(), re.MULTILINE)


def test_every_metric_on_the_page_is_there(tmp_path: Path) -> None:
    named = set(re.findall(r"tailrace_[a-z_]+[a-z]", PAGE))
    assert named
    assert named <= set(metrics_of_a_worker(tmp_path))
