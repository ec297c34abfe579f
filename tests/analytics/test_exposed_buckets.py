"""Which buckets hold exposed units: every revision, each unit once, and nobody whose arm was named by the request."""

from dataclasses import replace

import pytest

from analytics.exposed_buckets import exposed_units, newest_revision
from analytics.warehouse import Warehouse
from schemas.events import RecommendationServed, Traffic
from tests.analytics.ingest import Ingest
from tests.analytics.ledger import BEGAN_AT, Ledger, definition

pytestmark = pytest.mark.integration


def test_exposed_units_are_counted_once_by_their_bucket(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    def serve(number: int, bucket: int, revision: int = 1, *, exposed: bool = True, traffic: Traffic = Traffic.LIVE) -> None:
        ledger.serve(ledger.unit(number), BEGAN_AT + number, "control", exposed=exposed, traffic=traffic)
        ledger.served[-1] = placed(ledger.served[-1], bucket, revision)

    serve(1, 10)
    serve(2, 10, revision=2)
    serve(2, 10, revision=2)
    serve(3, 12, traffic=Traffic.BOT)
    serve(4, 13, exposed=False)
    serve(5, 14, traffic=Traffic.FORCED)
    serve(6, 20)
    ingest.write(ledger.served)
    ingest.write(ledger.served[:1])
    assert exposed_units(warehouse, ledger.experiment, 0, 1_000_000) == {10: 2, 12: 1, 20: 1}
    assert exposed_units(warehouse, ledger.experiment, 12, 20) == {12: 1}
    assert exposed_units(warehouse, "nobody", 0, 1_000_000) == {}


def test_how_far_the_warehouse_has_heard_of_an_experiment(ingest: Ingest, ledger: Ledger, warehouse: Warehouse) -> None:
    assert newest_revision(warehouse, ledger.experiment) == 0
    first = definition(ledger.experiment)
    ingest.write([first, replace(first, revision=2)])
    assert newest_revision(warehouse, ledger.experiment) == 2


def placed(event: RecommendationServed, bucket: int, revision: int) -> RecommendationServed:
    other, ours = event.assignments
    return replace(event, assignments=(replace(other, bucket=99), replace(ours, bucket=bucket, revision=revision)))
