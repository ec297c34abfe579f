"""The real broker, registry and warehouse for the tests that are marked `integration`."""

import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import psutil
import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import settings

from deploy.installing import bring_up
from deploy.local.ports import free_port
from deploy.local.stack import stop_stack
from deploy.provision import provision
from deploy.settings import KAFKA_BOOTSTRAP, TOPIC_PREFIX, WAREHOUSE_READ_URL, WAREHOUSE_URL, Installation
from schemas.topics import TOPICS, topic_name
from tests.missing_parts import stack_needed

TIMEOUT_S = 20
NUMBERS = count(1)

settings.register_profile("tailrace", deadline=None)  # what an example takes is the machine's affair
settings.load_profile("tailrace")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the stack comes first: with the quick tests last, processes that test at once end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A local stack of this run's own, as TAILRACE_* variables. Its programs come from the usual cache."""
    home = tmp_path_factory.mktemp("stack")
    ports = {f"TAILRACE_{part}_PORT": str(free_port()) for part in ("KAFKA", "REGISTRY", "WAREHOUSE")}
    shared = {name: os.environ[name] for name in ("TAILRACE_CACHE", "XDG_CACHE_HOME") if name in os.environ}
    try:
        with stack_needed():
            installed = bring_up({**shared, **ports, "TAILRACE_HOME": str(home)}, print)
        yield installed.variables
    finally:
        stop_stack(home)
        assert processes_of(home) == []


@pytest.fixture
def installation(stack: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Topics, subjects and a database of the test's own, provisioned, as TAILRACE_* variables."""
    number = next(NUMBERS)
    named = {name: in_database(stack[name], f"test_{number}") for name in (WAREHOUSE_URL, WAREHOUSE_READ_URL)}
    variables = {**stack, **named, TOPIC_PREFIX: f"test-{number}."}
    provision(Installation.from_environment(variables))
    yield variables
    remove(variables)


def in_database(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def remove(variables: Mapping[str, str]) -> None:
    """Many tests' topics and tables would slow the later ones down."""
    admin = AdminClient({"bootstrap.servers": variables[KAFKA_BOOTSTRAP], "log_level": 0})  # it may outlive the stack
    for future in admin.delete_topics([topic_name(variables[TOPIC_PREFIX], topic) for topic in TOPICS]).values():
        future.result(TIMEOUT_S)
    with clickhouse_connect.get_client(dsn=variables[WAREHOUSE_URL]) as client:
        client.command(f"DROP DATABASE {urlsplit(variables[WAREHOUSE_URL]).path.strip('/')} SYNC")


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes that still name the home."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(home) in line]
