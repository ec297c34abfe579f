"""The simulated users' experiment: the truth that the demo shows is what serving's own rankers earn."""

import json
import random
from pathlib import Path

import pytest

from deploy.demo import demo_ranking
from deploy.demo.simulation import Visits
from schemas.events import Micros
from schemas.experiment_history import broken_rules
from serving_worker.catalogue import Candidates, load_catalogue
from serving_worker.rankers.plackett_luce import PlackettLuce
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Query, Ranker

REQUESTS = 40_000


@pytest.fixture
def candidates(tmp_path: Path) -> Candidates:
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps(demo_ranking.catalogue()))
    return load_catalogue(path).surfaces[demo_ranking.SURFACE]


def earned(ranker: Ranker, candidates: Candidates) -> tuple[float, float]:
    """Mean clicks a request, and the mean's standard error."""
    visits, draw = Visits(seed=5, users=1, requests=REQUESTS), random.Random(7)
    query = Query(surface=demo_ranking.SURFACE, k=demo_ranking.SLATE_ITEMS)
    counts = []
    for request in range(REQUESTS):
        slate = [ranked.candidate.item_id for ranked in ranker.rank(candidates, query, draw).ranked]
        counts.append(len(visits.clicked(request, slate, demo_ranking.APPEAL)))  # type: ignore[arg-type]
    mean = sum(counts) / REQUESTS
    return mean, (sum((count - mean) ** 2 for count in counts) / REQUESTS / REQUESTS) ** 0.5


@pytest.mark.parametrize(
    ("arm", "ranker"), [(demo_ranking.POPULARITY, Popularity()), (demo_ranking.PLACKETT_LUCE, PlackettLuce())]
)
def test_the_truth_is_what_the_workers_ranker_earns(arm: str, ranker: Ranker, candidates: Candidates) -> None:
    mean, error = earned(ranker, candidates)

    assert abs(mean - demo_ranking.truth().expected[arm]) < 4 * error
    assert error < 0.005


def test_the_arms_differ_by_more_than_two_thousand_requests_blur() -> None:
    assert demo_ranking.truth().difference > 0.1


def test_the_experiment_may_be_published_and_served() -> None:
    definition = demo_ranking.definition(Micros(1))

    assert broken_rules([definition]) == []
    assert [arm.parameters["policy"] for arm in definition.arms] == ["popularity", "plackett_luce"]
