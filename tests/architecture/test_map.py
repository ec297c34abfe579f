"""DESIGN.md's map is true: what it names is there, and no package is missing from it."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = ("analytics", "deploy", "producers", "schemas", "serving_worker", "stream_processors", "tests")
MAP = (ROOT / "DESIGN.md").read_text(encoding="utf-8").partition("## Where things are\n")[2].partition("\n## ")[0]
IS_PATH = re.compile(r"[\w/.*]+(?:/|\.py|\.sql|\.avsc|\.json|\.toml)")
ANYWHERE = {"config.py", "main.py", "errors.py", "metrics.py", "__init__.py"}
"""Named for all rooms at once."""


def rooms() -> Iterator[tuple[Path, str]]:
    """Each room's folder, and what the map says of it."""
    for section in MAP.split("\n### `")[1:]:
        folder, _, text = section.partition("/`\n")
        yield ROOT / folder, text


def rows(text: str) -> Iterator[list[str]]:
    """The paths that each line names, in their order."""
    for line in text.splitlines():
        yield [name for name in re.findall(r"`([^`]+)`", line) if IS_PATH.fullmatch(name)]


def places(room: Path, names: list[str]) -> Iterator[tuple[str, list[Path]]]:
    """Where each name is. It stands in the room, or in the folder of the name that the line began with."""
    beside = room / names[0] if names and names[0].endswith("/") else (room / names[0]).parent if names else room
    for name in names:
        yield name, [*room.glob(name.rstrip("/")), *beside.glob(name.rstrip("/"))]


def named() -> dict[str, list[Path]]:
    """All that the map names, by room and name, with the places where it is."""
    found = {f"{room.name}: {name}": paths for room, text in rooms() for row in rows(text) for name, paths in places(room, row)}
    above = MAP.partition("\n### `")[0]
    overview = [name for row in rows(above.partition("| room |")[2]) for name in row]
    return found | {name: list(ROOT.glob(name.rstrip("/"))) for name in overview}


def packages() -> set[Path]:
    return {path.parent for top in TOP for path in (ROOT / top).rglob("__init__.py")} | {
        path.parent for path in (ROOT / "tests").rglob("*.py")
    }


def test_all_that_the_map_names_is_there() -> None:
    assert [name for name, paths in named().items() if not paths] == []
    assert len(named()) > 100, "the map was found"


def test_every_package_is_on_the_map() -> None:
    folders = {path if path.is_dir() else path.parent for paths in named().values() for path in paths}
    assert sorted(str(package.relative_to(ROOT)) for package in packages() - folders) == []


def test_every_module_is_on_the_map_or_in_a_folder_that_stands_for_its_files() -> None:
    paths = [path for found in named().values() for path in found]
    whole = {path for path in paths if path.is_dir() and path not in {ROOT / top for top in TOP if top != "tests"}}
    modules = {path for top in TOP[:-1] for path in (ROOT / top).rglob("*.py") if path.name not in ANYWHERE}
    missing = {module for module in modules - set(paths) if not whole & set(module.parents)}
    assert sorted(str(module.relative_to(ROOT)) for module in missing) == []
