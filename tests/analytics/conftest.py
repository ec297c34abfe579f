"""The doors to the real warehouse, and an empty ledger for an experiment of the test's own."""

import random
from collections.abc import Iterator, Mapping

import pytest

from analytics.config import AnalyticsConfig
from analytics.warehouse import Warehouse
from schemas.events import ExperimentId
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import Ledger


@pytest.fixture
def ingest(installation: Mapping[str, str]) -> Iterator[Ingest]:
    door = Ingest(installation["TAILRACE_WAREHOUSE_URL"])
    yield door
    door.close()


@pytest.fixture
def warehouse(installation: Mapping[str, str]) -> Iterator[Warehouse]:
    with Warehouse(AnalyticsConfig.from_environment(installation)) as opened:
        yield opened


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    name = request.node.name
    return Ledger(ExperimentId(name), random.Random(name))
