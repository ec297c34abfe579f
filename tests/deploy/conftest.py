"""A warehouse server for each module of tests that speaks to one."""

from collections.abc import Iterator

import pytest

from tests.deploy.warehouse_server_process import Server, start, stop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start(tmp_path_factory.mktemp("warehouse") / "data")
    yield started
    stop(started)
