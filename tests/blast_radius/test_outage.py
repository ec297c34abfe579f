"""A broker that is away for as long as TAILRACE_TEST_OUTAGE_S says (a minute in CI), and users who do not notice."""

import os
from collections import Counter
from pathlib import Path

import pytest

from schemas.events import RecommendationServed
from schemas.topics import RECOMMENDATIONS
from tests.blast_radius.ground import SERVE
from tests.blast_radius.serving_metrics import ACKNOWLEDGED, DROPPED, EMITTED, total
from tests.blast_radius.workers import Load, Worker, block, worker, write_catalogue
from tests.faults.stack import LocalStack, local_stack
from tests.missing_parts import stack_needed
from tests.producers.kafka_log import Log
from tests.waiting import eventually

pytestmark = pytest.mark.integration

OUTAGE_S = float(os.environ.get("TAILRACE_TEST_OUTAGE_S", "60" if "CI" in os.environ else "12"))
REQUESTS_S = 100.0
SETTLED_LIMIT_S = 60 + OUTAGE_S


def test_no_request_fails_while_the_broker_is_away_and_all_that_was_emitted_arrives(tmp_path: Path) -> None:
    with stack_needed(), local_stack(tmp_path / "stack") as stack:
        _serve_through_an_outage(stack, tmp_path)


def _serve_through_an_outage(stack: LocalStack, directory: Path) -> None:
    variables = {
        **stack.variables,
        "TAILRACE_CATALOGUE_FILE": str(write_catalogue(directory)),
        "TAILRACE_SPOOL_DIR": str(directory / "spool"),
    }
    cores = sorted(os.sched_getaffinity(0))
    with worker(variables, directory / "worker.log", cores, *SERVE) as serving:
        before = block(serving, Load(REQUESTS_S, 2.0))
        with stack.stopped("kafka"):
            meanwhile = block(serving, Load(REQUESTS_S, OUTAGE_S))
        after = block(serving, Load(REQUESTS_S, 2.0))
        requests = sum(len(each.statuses) for each in (before, meanwhile, after))
        assert sum((Counter(each.statuses) for each in (before, meanwhile, after)), Counter()) == {"200": requests}
        assert total(serving, EMITTED) == requests
        assert eventually(lambda: _settled(serving) == requests, SETTLED_LIMIT_S), _settled(serving)
        assert total(serving, DROPPED) == 0, "far below the caps"
    events = Log(stack.variables).read(RecommendationServed, RECOMMENDATIONS)
    assert {event.producer_seq for event in events} == set(range(requests))


def _settled(serving: Worker) -> float:
    return total(serving, ACKNOWLEDGED) + total(serving, DROPPED)
