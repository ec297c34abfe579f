"""Whether what a policy gave can be shown. Pure, and the same for the control and for what came out of a process."""

import math
from collections.abc import Callable, Mapping

from serving_worker.catalogue import Candidate
from serving_worker.errors import RankerError
from serving_worker.isolation.frames import Answer, Item
from serving_worker.isolation.reasons import Degraded, Unanswered, refusal_of
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
    return Answer([_item(ranked) for ranked in ranking.ranked[: k + 1]], _number(ranking.log_propensity, "log_propensity"))


def unanswered_by(error: Exception) -> Unanswered:
    """What became of a request over which a ranker raised `error`, or gave what answer_of could not take."""
    if isinstance(error, RankerError):  # a class of the ranker's own may have left out the reason
        return Unanswered(refusal_of(getattr(error, "reason", None)), _words_of(error))
    return Unanswered(Degraded.RANKER_FAILED, f"{type(error).__name__}: {_words_of(error)}")


def _item(ranked: Ranked) -> Item:
    item_id = _text(ranked.candidate.item_id, "item_id")
    return Item(item_id, _number(ranked.propensity, "propensity"), _number(ranked.score, "score"))


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: {type(value).__name__} is no text")
    return str(value)


def _number(value: object, name: str) -> float | None:
    """Of whatever kind, as models give them: their libraries' numbers are no floats, and only floats can be written."""
    if value is None or type(value) is float:
        return value
    to_float = getattr(type(value), "__float__", None)
    if to_float is None:  # a text has none, and float() would read it
        raise TypeError(f"{name}: {type(value).__name__} is no number")
    return float(to_float(value))


def _words_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception as fault:  # noqa: BLE001 - an error's text is the ranker's code, too
        return f"its text raises {type(fault).__name__}"


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
