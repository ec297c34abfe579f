"""Simulated users whose truth is known: who asks when, what they click, and what each way of ranking must earn. Pure and seeded.

A user clicks each item shown with that item's appeal, whatever stands beside or above it. So the clicks to expect of a request
are the sum of its items' appeals: exact under a fixed list, and exact under Plackett-Luce by summing over every slate.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.events import ItemId

Appeal = Mapping[ItemId, float]
"""The chance that a user who is shown the item clicks it."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Who asks, request by request: places of users, counted from 0."""

    seed: int
    users: int
    requests: int

    def askers(self) -> list[int]:
        """Every user asks at least once; the rest falls to users at random, so how often one asks tells nothing of the arm."""
        draw = random.Random(self.seed)  # noqa: S311 - a simulation, reproducible by its seed
        askers = [*range(self.users), *draw.choices(range(self.users), k=self.requests - self.users)]
        draw.shuffle(askers)
        return askers

    def clicked(self, request: int, items: Sequence[ItemId], appeal: Appeal) -> list[ItemId]:
        """What the asker of the given request clicks: the same for the same slate, whichever requests came before."""
        draw = random.Random(f"{self.seed}:{request}")  # noqa: S311 - as above
        return [item for item in items if draw.random() < appeal[item]]


def expected_clicks(slate: Sequence[ItemId], appeal: Appeal) -> float:
    """Clicks to expect of a request that is answered with `slate`."""
    return math.fsum(appeal[item] for item in slate)


def expected_clicks_plackett_luce(weights: Mapping[ItemId, float], size: int, appeal: Appeal) -> float:
    """Clicks to expect of a request that is answered with `size` items drawn by Plackett-Luce: in turn, by weight, none twice."""
    return math.fsum(chance * expected_clicks(tuple(slate), appeal) for slate, chance in _slates(weights, size).items())


def _slates(weights: Mapping[ItemId, float], size: int) -> Mapping[frozenset[ItemId], float]:
    """The chance of every set of `size` items, each reached by all orders in which it can be drawn."""
    total = math.fsum(weights.values())
    slates = {frozenset[ItemId](): 1.0}
    for _ in range(size):
        grown: dict[frozenset[ItemId], float] = defaultdict(float)
        for drawn, chance in slates.items():
            left = total - math.fsum(weights[item] for item in drawn)
            for item, weight in weights.items():
                if item not in drawn:
                    grown[drawn | {item}] += chance * weight / left
        slates = grown
    return slates
