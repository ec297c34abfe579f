"""An installation of the test's own, with what the tests of the sink do to one."""

import os
from collections.abc import Mapping

import pytest

from tests.stream_processors.warehouse_fixture import Bench


@pytest.fixture
def bench(installation: Mapping[str, str]) -> Bench:
    return Bench({**os.environ, **installation})
