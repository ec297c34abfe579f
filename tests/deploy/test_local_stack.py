"""The local stack as its users see it: commands, exit codes, and what is there after parts were killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import clickhouse_connect
import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from deploy.local.ports import free_port
from deploy.local.stack import stop_stack
from tests.waiting import eventually

pytestmark = pytest.mark.integration

PARTS = ("kafka", "registry", "warehouse")
TIMEOUT_S = 120
TOPIC = "tailrace.interactions"
SUBJECT = "kept-value"

Tailrace = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("own") / "home"
    yield home
    stop_stack(home)


@pytest.fixture(scope="module")
def tailrace(home: Path, stack: Mapping[str, str]) -> Tailrace:
    """The command on a stack of this module's own; `stack` has filled the cache of programs."""
    assert stack
    ports = {f"TAILRACE_{part.upper()}_PORT": str(free_port()) for part in PARTS}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_") or name == "TAILRACE_CACHE"
    }

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            env={**inherited, **ports, "TAILRACE_HOME": str(home), **variables},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


@pytest.fixture
def running(tailrace: Tailrace) -> Mapping[str, str]:
    """The variables of the stack, which runs."""
    done = tailrace("up", "--json")
    assert done.returncode == 0, done.stderr
    variables: Mapping[str, str] = json.loads(done.stdout)["environment"]
    return variables


def parts_of(tailrace: Tailrace) -> dict[str, dict[str, object]]:
    return {part["name"]: part for part in json.loads(tailrace("status", "--json").stdout)["parts"]}


def pid_of(tailrace: Tailrace, part: str) -> int:
    pid = parts_of(tailrace)[part]["pid"]
    assert isinstance(pid, int)
    return pid


def write_everywhere(variables: Mapping[str, str], mark: str) -> int:
    """Something that each part acknowledges; the schema's id."""
    producer = Producer({"bootstrap.servers": variables["TAILRACE_KAFKA_BOOTSTRAP"], "acks": "all"})
    failures: list[object] = []
    producer.produce(TOPIC, mark, on_delivery=lambda error, _message: failures.extend([error] if error else []))
    assert producer.flush(TIMEOUT_S) == 0
    assert failures == []
    with clickhouse_connect.get_client(dsn=variables["TAILRACE_WAREHOUSE_URL"]) as client:
        client.command("CREATE TABLE IF NOT EXISTS kept (mark String) ENGINE = MergeTree ORDER BY mark")
        client.command("INSERT INTO kept VALUES ({mark:String})", parameters={"mark": mark})
    return register(variables, mark)


def register(variables: Mapping[str, str], mark: str) -> int:
    text = json.dumps({"type": "record", "name": "Kept", "fields": [{"name": mark, "type": ["null", "int"], "default": None}]})
    with SchemaRegistryClient({"url": variables["TAILRACE_REGISTRY_URL"]}) as client:
        return int(client.register_schema(SUBJECT, Schema(text, "AVRO")))


def are_in_kafka(variables: Mapping[str, str], marks: set[str]) -> bool:
    consumer = Consumer(
        {
            "bootstrap.servers": variables["TAILRACE_KAFKA_BOOTSTRAP"],
            "group.id": f"reader-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([TOPIC])
    found: set[str] = set()

    def all_read() -> bool:
        found.update((message.value() or b"").decode() for message in consumer.consume(10, 1.0))
        return marks <= found

    try:
        return eventually(all_read, TIMEOUT_S)
    finally:
        consumer.close()


def marks_in_warehouse(variables: Mapping[str, str]) -> set[str]:
    with clickhouse_connect.get_client(dsn=variables["TAILRACE_WAREHOUSE_READ_URL"]) as client:
        return {str(mark) for (mark,) in client.query("SELECT mark FROM kept").result_rows}


def test_what_was_acknowledged_outlives_a_kill_of_each_part(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    ids = {}
    for victim in PARTS:
        ids[victim] = write_everywhere(running, victim)
        os.kill(pid_of(tailrace, victim), signal.SIGKILL)
        assert tailrace("up").returncode == 0

    assert are_in_kafka(running, set(PARTS))
    assert marks_in_warehouse(running) >= set(PARTS)
    assert {victim: register(running, victim) for victim in PARTS} == ids


def test_what_was_acknowledged_outlives_down_and_the_addresses_stay(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    write_everywhere(running, "down")
    assert tailrace("down").returncode == 0

    again = json.loads(tailrace("up", "--json").stdout)

    assert again["environment"] == running
    assert [outcome["made"] for outcome in again["outcomes"]] == [[], [], []]
    assert "down" in marks_in_warehouse(running)


def test_a_part_that_dies_is_started_again_without_being_asked(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    assert running
    killed = pid_of(tailrace, "warehouse")
    os.kill(killed, signal.SIGKILL)

    assert eventually(lambda: tailrace("status").returncode == 0 and pid_of(tailrace, "warehouse") != killed, TIMEOUT_S)
    assert parts_of(tailrace)["warehouse"]["restarts"]


def test_up_twice_leaves_the_running_processes_alone(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    before = {part: pid_of(tailrace, part) for part in PARTS}

    again = json.loads(tailrace("up", "--json").stdout)

    assert again["environment"] == running
    assert {part: pid_of(tailrace, part) for part in PARTS} == before


def test_the_stacks_own_exported_addresses_do_not_make_it_somebody_elses(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    assert tailrace("down").returncode == 0

    assert tailrace("up", **running).returncode == 0
    assert parts_of(tailrace)["kafka"]["state"] == "healthy"


def test_parts_that_a_killed_supervisor_left_are_replaced(tailrace: Tailrace, running: Mapping[str, str], home: Path) -> None:
    assert running
    left = {part: pid_of(tailrace, part) for part in PARTS}
    os.kill(json.loads((home / "run.json").read_text())["supervisor"]["pid"], signal.SIGKILL)

    assert tailrace("up").returncode == 0

    assert not any(psutil.pid_exists(pid) for pid in left.values())
    assert tailrace("status").returncode == 0


def test_doctor_finds_nothing_in_a_stack_that_is_well(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    assert running
    done = tailrace("doctor", "--json")

    assert json.loads(done.stdout)["healthy"], done.stdout
    assert done.returncode == 0


def test_env_can_be_evaluated_by_a_shell(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    exports = tailrace("env").stdout

    shown = subprocess.run(["sh", "-c", f"{exports}\nenv"], capture_output=True, text=True, check=True).stdout

    assert all(f"{name}={value}" in shown.splitlines() for name, value in running.items())


def test_what_holds_passwords_is_for_its_owner_alone(running: Mapping[str, str], home: Path) -> None:
    assert running
    assert (home / "stack.json").stat().st_mode & 0o077 == 0


def test_down_ends_every_process_and_down_again_is_harmless(tailrace: Tailrace, running: Mapping[str, str]) -> None:
    assert running
    pids = [pid_of(tailrace, part) for part in PARTS]

    assert [tailrace("down").returncode, tailrace("down").returncode] == [0, 0]

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert {part["state"] for part in parts_of(tailrace).values()} == {"stopped"}
    assert tailrace("status").returncode == 1
    assert tailrace("env").returncode == 3


def test_a_configured_port_that_is_taken_is_named_with_its_setting(tailrace: Tailrace) -> None:
    tailrace("down")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        refused = tailrace("up", TAILRACE_REGISTRY_PORT=port)

    assert refused.returncode == 3
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "TAILRACE_REGISTRY_PORT" in refused.stderr


def test_up_starts_nothing_where_every_part_is_named(tailrace: Tailrace, installation: Mapping[str, str], tmp_path: Path) -> None:
    named = {name: value for name, value in installation.items() if name.endswith(("BOOTSTRAP", "URL", "PREFIX"))}

    done = tailrace("up", "--json", **named, TAILRACE_HOME=str(tmp_path / "unused"))

    assert done.returncode == 0, done.stderr
    assert [outcome["made"] for outcome in json.loads(done.stdout)["outcomes"]] == [[], [], []]
    assert not (tmp_path / "unused").exists()
