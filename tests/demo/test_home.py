"""The demo empties what a demo has made, and nothing else."""

from pathlib import Path

import pytest

from deploy.demo.home import empty, environment_of, refuse_foreign
from schemas.errors import ConfigurationError


def test_a_home_that_a_demo_made_is_emptied_for_the_next(tmp_path: Path) -> None:
    home = tmp_path / "below" / "demo"
    empty(home)
    (home / "kafka").mkdir()
    (home / "kafka" / "log").write_text("records")

    empty(home)

    assert not (home / "kafka").exists()
    refuse_foreign(home)


def test_a_directory_with_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("somebody's stack")

    with pytest.raises(ConfigurationError, match="no demo made it"):
        empty(tmp_path)

    assert (tmp_path / "stack.json").read_text() == "somebody's stack"


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    empty(tmp_path)

    refuse_foreign(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(ConfigurationError, match="no directory"):
        empty(tmp_path / "home")


def test_settings_of_another_installation_do_not_reach_the_demo(tmp_path: Path) -> None:
    variables = {
        "PATH": "/bin",
        "TAILRACE_KAFKA_BOOTSTRAP": "kafka.example:9092",
        "TAILRACE_HOME": "/somewhere",
        "TAILRACE_CACHE": "/cache",
    }

    assert environment_of(tmp_path, variables) == {"PATH": "/bin", "TAILRACE_CACHE": "/cache", "TAILRACE_HOME": str(tmp_path)}
