"""Rankers, and that what they log is the chance with which they chose."""

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from serving_worker.catalogue import Candidate, Candidates
from serving_worker.errors import RankerError
from serving_worker.rankers.plackett_luce import PlackettLuce, slate_log_propensities
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Query

SCORES = {"a": 1.0, "b": 0.2, "c": 0.0, "d": -0.7, "e": 1.6}
CANDIDATES = Candidates(tuple(Candidate(item, score) for item, score in SCORES.items()))


def query(k: int, **parameters: str) -> Query:
    return Query(surface="home", k=k, parameters=parameters)


def chance_of(slate: tuple[str, ...], temperature: float) -> float:
    """By the definition of Plackett-Luce, with plain weights."""
    weights = {item: math.exp(score / temperature) for item, score in SCORES.items()}
    chance = 1.0
    for item in slate:
        chance *= weights[item] / sum(weights.values())
        del weights[item]
    return chance


def test_popularity_keeps_the_catalogues_order_and_is_certain() -> None:
    ranking = Popularity().rank(CANDIDATES, query(3), random.Random(1))
    assert [(ranked.candidate.item_id, ranked.propensity) for ranked in ranking.ranked] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    assert ranking.log_propensity == 0.0


@pytest.mark.parametrize("ranker", [Popularity(), PlackettLuce()])
def test_a_short_catalogue_is_ranked_whole(ranker: Popularity | PlackettLuce) -> None:
    assert len(ranker.rank(CANDIDATES, query(50), random.Random(1)).ranked) == len(SCORES)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_logged_propensities_are_those_of_the_definition(temperature: float) -> None:
    seen = set()
    for seed in range(2_000):
        ranking = PlackettLuce().rank(CANDIDATES, query(3, temperature=str(temperature)), random.Random(seed))
        slate = tuple(ranked.candidate.item_id for ranked in ranking.ranked)
        seen.add(slate)
        chances = [chance_of(slate[: place + 1], temperature) / chance_of(slate[:place], temperature) for place in range(3)]
        assert [ranked.propensity for ranked in ranking.ranked] == pytest.approx(chances, rel=1e-12)
        assert ranking.log_propensity == pytest.approx(math.log(chance_of(slate, temperature)), rel=1e-12)
    assert len(seen) > 10


def test_logged_chances_of_all_slates_sum_to_one() -> None:
    places = range(len(SCORES))
    scores = list(SCORES.values())
    total = math.fsum(
        math.exp(math.fsum(slate_log_propensities([scores[place] for place in order], 3))) / math.factorial(2)
        for order in itertools.permutations(places)
    )
    assert total == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_slates_come_as_often_as_their_propensities_say(temperature: float) -> None:
    draw = random.Random(20_260_101)
    draws = 40_000
    counts = Counter(
        tuple(
            ranked.candidate.item_id
            for ranked in PlackettLuce().rank(CANDIDATES, query(2, temperature=str(temperature)), draw).ranked
        )
        for _ in range(draws)
    )
    slates = list(itertools.permutations(SCORES, 2))
    expected = [chance_of(slate, temperature) * draws for slate in slates]
    assert min(expected) > 5
    assert stats.chisquare([counts[slate] for slate in slates], expected).pvalue > 0.001


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=12), st.integers(1, 12))
def test_propensities_stay_exact_where_one_item_dominates(log_weights: list[float], k: int) -> None:
    chances = slate_log_propensities(log_weights, k)
    assert len(chances) == min(k, len(log_weights))
    for place, chance in enumerate(chances):
        left = log_weights[place:]
        exact = -math.log(math.fsum(math.exp(min(weight - log_weights[place], 700)) for weight in left))
        assert chance <= 0
        assert chance == pytest.approx(exact, rel=1e-9, abs=1e-12) or max(left) - log_weights[place] > 700


def test_the_same_seed_draws_the_same_slate() -> None:
    one, other = (PlackettLuce().rank(CANDIDATES, query(5), random.Random("7:request")) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("temperature", ["0", "-1", "warm", "nan", "inf", "1e-320"])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: str) -> None:
    with pytest.raises(RankerError) as refusal:
        PlackettLuce().rank(CANDIDATES, query(2, temperature=temperature), random.Random(1))
    assert refusal.value.reason == "bad_parameter"
