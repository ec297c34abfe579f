"""Whether what a policy gave can be shown. Pure, and the same for the control and for what came out of a process."""

import math
from collections.abc import Callable, Mapping

from serving_worker.catalogue import Candidate
from serving_worker.isolation.frames import Answer, Item
from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Ranked, Ranking


def ranking_of(answer: Answer, candidates: Mapping[str, Candidate], k: int) -> Ranking:
    """The ranking that `answer` stands for. `candidates` are by their item ids.

    Raises Unanswered with the word of the first lie.
    """
    wanted = min(k, len(candidates))
    if len(answer.items) != wanted:
        raise Unanswered(Degraded.WRONG_SIZE, f"{len(answer.items)} items where {wanted} were asked for")
    _refuse_items([item.item_id for item in answer.items], candidates)
    _refuse_numbers(answer)
    return Ranking(
        tuple(Ranked(candidates[item.item_id], item.propensity, item.score) for item in answer.items), answer.log_propensity
    )


def answer_of(ranking: Ranking, k: int) -> Answer:
    """What a ranker gave, as it is written and judged; of too many items, one too many.

    Raises whatever a thing that is no ranking runs into.
    """
    items = [Item(ranked.candidate.item_id, ranked.propensity, ranked.score) for ranked in ranking.ranked[: k + 1]]
    return Answer(items, ranking.log_propensity)


def _refuse_items(item_ids: list[str], candidates: Mapping[str, Candidate]) -> None:
    distinct = set(item_ids)
    if unknown := distinct - candidates.keys():
        raise Unanswered(Degraded.UNKNOWN_ITEM, f"{min(unknown)!r} is none of the candidates")
    if len(distinct) < len(item_ids):
        raise Unanswered(Degraded.REPEATED_ITEM, "an item stands in two places")


def _refuse_numbers(answer: Answer) -> None:
    _refuse([item.propensity for item in answer.items], _is_chance, "propensity")
    _refuse([item.score for item in answer.items], math.isfinite, "score")
    _refuse([answer.log_propensity], _is_log_of_chance, "log_propensity")


def _refuse(values: list[float | None], is_good: Callable[[float], bool], name: str) -> None:
    for value in values:
        if value is not None and not is_good(value):
            raise Unanswered(Degraded.BAD_NUMBER, f"{name} {value}")


def _is_chance(value: float) -> bool:
    """0 is a chance too: that of a dominated item is below the smallest number. NaN is none."""
    return 0.0 <= value <= 1.0


def _is_log_of_chance(value: float) -> bool:
    return -math.inf < value <= 0.0
