"""The control policy: in the worker, and what every other policy falls back to. Below it stands popularity."""

import random

from serving_worker.catalogue import Candidate, Catalogue, ItemsById
from serving_worker.isolation.frames import Answer
from serving_worker.isolation.pool import PolicyAnswer
from serving_worker.isolation.verdict import answer_of, ranking_of, unanswered_by
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Query, Ranked, Ranker, Ranking

LAST_RESORT = "popularity"


class Control:
    """It has no deadline: CPU work in the worker's own thread cannot be stopped. Trust it, or name another default policy."""

    def __init__(self, policy_id: str, ranker: Ranker, catalogue: Catalogue, items: ItemsById) -> None:
        self.policy_id, self._ranker, self._catalogue, self._items = policy_id, ranker, catalogue, items

    def rank(self, query: Query, seed: str) -> PolicyAnswer:
        """Judged like every other policy's answer.

        Raises Unanswered.
        """
        draw = random.Random(seed)  # noqa: S311 - not for secrets; an answer can be drawn again
        answer = self._answer(query, draw)
        return PolicyAnswer(ranking_of(answer, self._items[query.surface], query.k), self._ranker.version)

    def last_resort(self, query: Query) -> PolicyAnswer:
        """Popularity, without propensities: no policy chose these items."""
        chosen: tuple[Candidate, ...] = self._catalogue.surfaces[query.surface].items[: query.k]
        return PolicyAnswer(Ranking(tuple(Ranked(candidate, None) for candidate in chosen), None), Popularity.version)

    def _answer(self, query: Query, draw: random.Random) -> Answer:
        try:
            return answer_of(self._ranker.rank(self._catalogue.surfaces[query.surface], query, draw), query.k)
        except Exception as error:
            raise unanswered_by(error) from error
