"""Rankers, and that what they log is the chance with which they chose."""

import asyncio
import itertools
import json
import math
import os
import random
import re
from collections import Counter, defaultdict
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schemas.errors import ConfigurationError
from serving_worker.catalogue import Candidate, Candidates, by_item_id, load_catalogue
from serving_worker.errors import RankerError
from serving_worker.isolation.checking import refuse_broken
from serving_worker.isolation.limits import HostLimits, PoolLimits
from serving_worker.isolation.pool import PolicyAnswer, Pool
from serving_worker.isolation.process import Program, host_environment
from serving_worker.isolation.reasons import Degraded
from serving_worker.rankers.plackett_luce import PlackettLuce, slate_log_propensities
from serving_worker.rankers.plugins import BUILT_IN, GROUP, load_ranker, named_rankers
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


def test_items_come_as_often_as_the_propensities_say_that_were_logged_with_them() -> None:
    """Within each prefix: given the items above, each item stands next as often as was logged for it."""
    draw, draws, asked = random.Random(20_260_101), 200_000, query(3, temperature="2")
    counts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    logged: dict[tuple[str, ...], float] = {}
    for _ in range(draws):
        above: tuple[str, ...] = ()
        for ranked in PlackettLuce().rank(CANDIDATES, asked, draw).ranked:
            counts[above][ranked.candidate.item_id] += 1
            above = (*above, ranked.candidate.item_id)
            assert ranked.propensity is not None
            assert math.isclose(logged.setdefault(above, ranked.propensity), ranked.propensity, rel_tol=1e-9)
    assert len(counts) == 1 + 5 + 5 * 4
    pvalues = [
        stats.chisquare(list(found.values()), [found.total() * logged[(*above, item)] for item in found]).pvalue
        for above, found in counts.items()
    ]
    assert min(pvalues) * len(pvalues) > 0.001
    assert stats.combine_pvalues(pvalues).pvalue > 0.001


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


DOCS = Path(__file__).parents[2] / "docs" / "rankers.md"


def test_the_example_of_the_docs_ranks_in_a_process_of_its_own(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(example.strip().splitlines()) <= 20
    (tmp_path / "my_ranking.py").write_text(example, encoding="utf-8")
    catalogue = tmp_path / "catalogue.json"
    items = [{"item_id": item, "score": 0.0, "team": team} for item, team in (("a", "red"), ("b", "blue"), ("c", "blue"))]
    catalogue.write_text(json.dumps({"surfaces": {"home": {"items": items}}}), encoding="utf-8")
    inherited = host_environment(os.environ)
    environment = {**inherited, "PYTHONPATH": os.pathsep.join([str(tmp_path), inherited["PYTHONPATH"]])}
    program = Program("my_ranking:HomeTeam", catalogue, HostLimits(), environment)

    async def ranked() -> PolicyAnswer:
        pool = Pool("home_team", program, by_item_id(load_catalogue(catalogue)), PoolLimits(processes=1), lambda: 0)
        pool.open()
        try:
            await asyncio.wait_for(pool.is_up.wait(), 30)
            return await pool.rank(Query(surface="home", k=2, context={"team": "blue"}), "seed", 30)
        finally:
            await pool.close()

    answer = asyncio.run(ranked())
    assert [(one.candidate.item_id, one.score) for one in answer.ranking.ranked] == [("b", 1.0), ("c", 1.0)]


def test_every_word_for_a_degraded_answer_is_in_the_docs() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [reason for reason in Degraded if f"`{reason}`" not in text] == []


def test_rankers_are_ours_those_of_packages_and_the_configured_ones() -> None:
    installed = [EntryPoint("theirs", "their.module:Ranker", GROUP)]
    assert named_rankers({"mine": "my.module:Ranker"}, installed) == {
        **BUILT_IN,
        "theirs": "their.module:Ranker",
        "mine": "my.module:Ranker",
    }


def test_a_name_for_two_rankers_and_a_path_that_is_none_are_all_said() -> None:
    with pytest.raises(ConfigurationError) as refused:
        named_rankers({"popularity": "my.module:Ranker", "mine": "my module"}, [EntryPoint("theirs", "their.module", GROUP)])
    assert [name in str(refused.value) for name in ("'popularity' is both", "'mine'", "'theirs'")] == [True] * 3


@pytest.mark.parametrize(
    ("ranker", "fault"),
    [
        ("no.such.module:Ranker", "No module named"),
        ("serving_worker.rankers.popularity:Nothing", "Nothing"),
        ("tests.serving_worker.hostile_rankers:Broken", "no model here"),
        ("tests.serving_worker.hostile_rankers:NoVersion", "version"),
        ("tests.serving_worker.hostile_rankers:OldSignature", "candidates, query, draw"),
    ],
)
def test_what_is_no_ranker_is_refused_with_what_is_wrong(ranker: str, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(ranker)) as refused:
        load_ranker(ranker)
    assert fault in str(refused.value)


def test_every_ranker_that_cannot_be_loaded_is_named_at_once_and_none_hurts_who_asks() -> None:
    hostile = "tests.serving_worker.hostile_rankers"
    rankers = {**BUILT_IN, "one": f"{hostile}:Broken", "good": f"{hostile}:Hostile", "other": "os:abort"}
    with pytest.raises(ConfigurationError) as refused:
        refuse_broken(rankers, os.environ)
    one, other = refused.value.problems
    assert one.startswith("one: ")
    assert other.startswith("other: ")
    assert "ended the process" in other
