"""docs/benchmarks: a JSON file of raw figures for each part, and a README.md made of all of them. No figure in it is written by
hand.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.parts import PARTS
from tests.benchmarks.presentation import as_markdown

_HEAD = """# Benchmarks

`make bench` measures all of this in one run, on a local stack of its own, writes the raw figures beside this file, and makes this
file of them; `.venv/bin/python -m tests.benchmarks NAME …` measures some parts of it. Broker, warehouse, contender and whoever
writes share one machine. Absolute figures vary between machines and hours; ratios within a run are what to look at.
"""


def write(directory: Path, name: str, content: Mapping[str, Any]) -> None:
    """Keep a part's figures, and make the README of all that are there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    paths = {name: directory / f"{name}.json" for name in PARTS}
    kept = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    (directory / "README.md").write_text(readme(kept), encoding="utf-8")


def readme(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """Of what `content` was made for each part."""
    return "\n".join([_HEAD, *(_part(name, content) for name, content in kept.items())])


def content(measured: Mapping[str, Any], command: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    return {"command": command, "machine": dict(machine), "measured": measured}


def _part(name: str, kept: Mapping[str, Any]) -> str:
    machine = kept["machine"]
    where = (
        f"`{kept['command']}` on {machine['cores']} cores ({machine['architecture']}), {machine['system']}, "
        f"Python {machine['python']}, Kafka {machine['kafka']}, chDB {machine['chdb']}; "
        f"load average at the start {machine['load_average']:.1f}. Raw figures: [{name}.json]({name}.json)."
    )
    return f"{as_markdown(PARTS[name].present(kept['measured']))}\n{where}\n"
