"""How the embedded warehouse starts, ends, and finds what it had."""

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from tests.deploy.warehouse_server_process import (
    DEADLINE_SECONDS,
    Reply,
    Server,
    command,
    start,
    stop,
)
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    first.rows("CREATE DATABASE kept")
    for database in ("default", "kept"):
        first.rows(f"CREATE TABLE {database}.t (a UInt64) ENGINE = MergeTree ORDER BY a")
        first.rows(f"INSERT INTO {database}.t VALUES (1), (2)")
    stop(first, signal.SIGKILL)
    second = start(tmp_path / "data")
    assert second.rows("SELECT count() FROM default.t UNION ALL SELECT count() FROM kept.t") == ["2", "2"]
    assert second.ask("SELECT * FROM `/etc/passwd`").code == 60
    assert stop(second) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_directory_whose_default_database_is_empty_opens_again(tmp_path: Path, how: signal.Signals) -> None:
    first = start(tmp_path / "data")
    first.rows("CREATE DATABASE kept")
    first.rows("CREATE TABLE kept.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    stop(first, how)

    second = start(tmp_path / "data")

    assert second.rows("EXISTS kept.t") == ["1"]
    assert second.rows("SHOW TABLES FROM default") == []
    assert stop(second) == 0


def test_sigterm_lets_a_running_query_end(tmp_path: Path) -> None:
    ending = start(tmp_path / "data")
    replies = stopped_while_it_runs(ending, "SELECT sum(sleepEachRow(0.5)) FROM numbers(3)", "sleepEachRow(0.5)")
    assert replies[0].text == "0\n"


def test_sigterm_does_not_wait_for_ever(tmp_path: Path) -> None:
    ending = start(tmp_path / "data", "--grace-seconds", "1")
    replies = stopped_while_it_runs(ending, "SELECT sum(cityHash64(number)) FROM numbers(100000000000)", "cityHash64")
    assert replies == [] or replies[0].status != 200


def stopped_while_it_runs(server: Server, query: str, within: str) -> list[Reply]:
    """What the query, which has `within` in its text, was answered: nothing where nothing came."""
    replies: list[Reply] = []
    client = threading.Thread(target=lambda: replies.append(server.ask(query)))
    client.start()
    running = f"SELECT 1 FROM system.processes WHERE query LIKE '%{within}%'"
    assert eventually(lambda: len(server.rows(running)) == 2, DEADLINE_SECONDS), "not in time"
    assert stop(server) == 0
    client.join(DEADLINE_SECONDS)
    return replies


def test_a_directory_or_port_that_is_taken_ends_the_start_with_3(server: Server, tmp_path: Path) -> None:
    directory = server.log.with_suffix("")
    for line, said in (
        (command(directory, free_port()), "the engine cannot open it"),
        (command(tmp_path / "other", server.port), f"127.0.0.1:{server.port}"),
    ):
        ended = subprocess.run(line[0], env=line[1], capture_output=True, timeout=DEADLINE_SECONDS, check=False)
        assert ended.returncode == 3
        assert said in ended.stderr.splitlines()[-1].decode()


def test_without_passwords_the_start_ends_with_2(tmp_path: Path) -> None:
    line, environment = command(tmp_path, free_port())
    bare = {name: value for name, value in environment.items() if not name.startswith("TAILRACE_WAREHOUSE_SERVER")}
    ended = subprocess.run(line, env=bare, capture_output=True, timeout=DEADLINE_SECONDS, check=False)
    assert ended.returncode == 2
    assert b"TAILRACE_WAREHOUSE_SERVER_READER_PASSWORD is not set" in ended.stderr
