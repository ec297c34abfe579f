"""The simulated users' truth: exact, and the same as what drawing many slates and clicks gives."""

import random
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.simulation import Visits, expected_clicks, expected_clicks_plackett_luce
from schemas.events import ItemId

WEIGHTS = {ItemId(name): weight for name, weight in zip("abcdef", (8.0, 4.0, 2.0, 1.0, 0.5, 0.25), strict=True)}
APPEAL = {ItemId(name): appeal for name, appeal in zip("abcdef", (0.05, 0.1, 0.3, 0.02, 0.6, 0.4), strict=True)}


def drawn_slate(weights: dict[ItemId, float], size: int, draw: random.Random) -> list[ItemId]:
    left, slate = dict(weights), []
    for _ in range(size):
        item = draw.choices(list(left), list(left.values()))[0]
        slate.append(item)
        del left[item]
    return slate


def test_a_fixed_list_earns_the_sum_of_its_appeals() -> None:
    assert expected_clicks([ItemId("a"), ItemId("c")], APPEAL) == pytest.approx(0.35, abs=1e-15)


@given(
    st.lists(st.floats(0.01, 100), min_size=3, max_size=5),
    st.integers(1, 3),
)
def test_plackett_luce_truth_is_the_sum_over_every_order(values: list[float], size: int) -> None:
    weights = {ItemId(str(place)): value for place, value in enumerate(values)}
    appeal = {item: (int(item) + 1) / 10 for item in weights}
    truth = 0.0
    for order in permutations(weights, size):
        chance, left = 1.0, sum(weights.values())
        for item in order:
            chance, left = chance * weights[item] / left, left - weights[item]
        truth += chance * sum(appeal[item] for item in order)

    assert expected_clicks_plackett_luce(weights, size, appeal) == pytest.approx(truth, rel=1e-9)


def test_truth_agrees_with_a_hundred_thousand_simulated_requests() -> None:
    requests, draw = 100_000, random.Random(20191124)
    visits = Visits(seed=3, users=1, requests=requests)
    clicks = [len(visits.clicked(request, drawn_slate(WEIGHTS, 3, draw), APPEAL)) for request in range(requests)]

    mean = sum(clicks) / requests
    spread = sum((count - mean) ** 2 for count in clicks) / (requests - 1)

    truth = expected_clicks_plackett_luce(WEIGHTS, 3, APPEAL)
    assert abs(mean - truth) < 4 * (spread / requests) ** 0.5
    assert truth != pytest.approx(expected_clicks(list(APPEAL)[:3], APPEAL), abs=0.01)


def test_a_slate_of_every_item_earns_every_appeal() -> None:
    assert expected_clicks_plackett_luce(WEIGHTS, 6, APPEAL) == pytest.approx(sum(APPEAL.values()), abs=1e-12)


def test_every_user_asks_and_the_requests_add_up() -> None:
    askers = Visits(seed=1, users=50, requests=200).askers()

    assert len(askers) == 200
    assert set(askers) == set(range(50))
    assert max(Counter(askers).values()) > 4


def test_the_same_seed_gives_the_same_visits_and_another_seed_others() -> None:
    visits = Visits(seed=1, users=50, requests=200)

    assert visits.askers() == Visits(seed=1, users=50, requests=200).askers()
    assert visits.askers() != Visits(seed=2, users=50, requests=200).askers()


def test_a_click_depends_on_nothing_but_its_own_request() -> None:
    visits, slate = Visits(seed=1, users=50, requests=200), list(APPEAL)
    alone = visits.clicked(150, slate, APPEAL)

    assert [visits.clicked(request, slate, APPEAL) for request in range(200)][150] == alone
    assert len({tuple(visits.clicked(request, slate, APPEAL)) for request in range(200)}) > 10
