"""The folders' contracts hold, and breaking one turns the build red.

Two guards: import-linter reads every import, also one inside a function or through another folder; and a process that has only
the serving extra installed starts the worker.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("analytics", "deploy", "producers", "schemas", "serving_worker", "stream_processors")
SERVING_SIDE = "Serving reaches nothing of the experimentation side"
FORBIDDEN = ("analytics", "stream_processors", "clickhouse_connect", "faust", "scipy", "numpy", "chdb")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code, to be spoilt."""
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_code_keeps_its_contracts(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("serving_worker/recommend.py", "\nimport clickhouse_connect\n"),
        ("serving_worker/recommend.py", "\ndef _look() -> None:\n    import clickhouse_connect.driver\n"),
        ("serving_worker/main.py", "\nfrom analytics import moments\n"),
        ("producers/emitter.py", "\nfrom stream_processors.warehouse import batch\n"),
        ("schemas/topics.py", "\ndef _look() -> None:\n    from numpy import array\n"),
    ],
)
def test_serving_that_reaches_for_the_other_side_is_refused(tree: Path, file: str, text: str) -> None:
    append(tree / file, text)
    result = lint(tree)
    assert result.returncode == 1
    assert f"{SERVING_SIDE} BROKEN" in result.stdout


def test_serving_that_reaches_through_the_contracts_is_refused(tree: Path) -> None:
    (tree / "schemas" / "shortcut.py").write_text("import clickhouse_connect\n", encoding="utf-8")
    append(tree / "serving_worker" / "recommend.py", "\nfrom schemas import shortcut\n")
    result = lint(tree)
    assert result.returncode == 1
    assert f"{SERVING_SIDE} BROKEN" in result.stdout
    assert "serving_worker.recommend -> schemas.shortcut" in result.stdout


@pytest.mark.parametrize(
    ("file", "text", "contract"),
    [
        ("analytics/moments.py", "import producers.emitter", "Nothing flows back up"),
        ("analytics/moments.py", "import schemas.codec", "Analytics meets the stream in tables only"),
        ("schemas/topics.py", "import confluent_kafka", "The contracts reach no client"),
        ("producers/emitter.py", "import deploy.cli", "Nobody imports the composition root"),
    ],
)
def test_every_other_contract_bites(tree: Path, file: str, text: str, contract: str) -> None:
    append(tree / file, f"\n{text}\n")
    result = lint(tree)
    assert result.returncode == 1
    assert any(contract in line and line.endswith("BROKEN") for line in result.stdout.splitlines())


GUARDED = """
import sys

allowed = set(sys.argv[1].split(","))

class OnlyTheServingExtra:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{top} is not installed with the serving extra", name=name)
        return None

sys.meta_path.insert(0, OnlyTheServingExtra())
import serving_worker.main
print(",".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_host_with_only_the_serving_extra_starts_the_worker() -> None:
    allowed = {*modules_of_extra("serving_worker"), "schemas", "producers", "serving_worker"}
    assert allowed.isdisjoint(FORBIDDEN)
    ran = subprocess.run(
        [sys.executable, "-c", GUARDED, ",".join(sorted(allowed))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.strip().split(","))
    assert "starlette" in loaded
    assert loaded.isdisjoint(FORBIDDEN)


def test_a_host_with_only_the_serving_extra_is_told_what_is_wrong_with_its_settings() -> None:
    allowed = {*modules_of_extra("serving_worker"), "schemas", "producers", "serving_worker"}
    program = GUARDED.replace(
        "import serving_worker.main", "import runpy; runpy.run_module('serving_worker', run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, ",".join(sorted(allowed))],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert "TAILRACE_CATALOGUE_FILE is not set" in ran.stderr


def test_the_second_guard_refuses_what_the_serving_extra_lacks() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", GUARDED.replace("import serving_worker.main", "import clickhouse_connect"), "schemas"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert "clickhouse_connect is not installed with the serving extra" in ran.stderr


def modules_of_extra(extra: str) -> set[str]:
    """The top-level modules that `tailrace[extra]` brings, all that its requirements require included."""
    names: set[str] = set()
    waiting = [("tailrace", extra)]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        if (found := installed(name)) is None:
            continue
        names.add(name)
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                waiting.extend((normal(requirement.name), part) for part in ("", *requirement.extras))
    return {module for module, owners in packages_distributions().items() if names & {normal(owner) for owner in owners}} - {
        *FOLDERS
    }


def installed(name: str) -> Distribution | None:
    """None for what another platform or version needs and is not here."""
    try:
        return distribution(name)
    except ModuleNotFoundError:
        return None


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
