"""The catalogue's own order."""

import random

from serving_worker.catalogue import Candidates
from serving_worker.rankers.ranking import Query, Ranked, Ranking


class Popularity:
    """Every item is certain given those above it. Cannot fail, so it is the last resort."""

    version = "1"

    def rank(self, candidates: Candidates, query: Query, _draw: random.Random) -> Ranking:
        return Ranking(tuple(Ranked(candidate, 1.0) for candidate in candidates.items[: query.k]), 0.0)
