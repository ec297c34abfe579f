"""Sampling a slate by Plackett–Luce: in turn, each item by its weight exp(score / temperature) among those that are left.

Sampled as an exponential race: item i finishes at E_i / w_i with E_i exponential, and the first k to finish, in their order, are
a Plackett–Luce sample (Yellott 1977; Kool et al. 2019, as Gumbel top-k). Propensities are exact, from the weights: sums over
what is left are added up from the bottom of the slate, never subtracted, so a dominating item costs no digits.
"""

import math
import random
import sys
from collections.abc import Mapping, Sequence

from serving_worker.catalogue import Candidates
from serving_worker.errors import RankerError
from serving_worker.rankers.ranking import Query, Ranked, Ranking


class PlackettLuce:
    """Parameter `temperature`, above 0 and 1 unless set: low ones follow the scores, high ones explore."""

    version = "1"

    def rank(self, candidates: Candidates, query: Query, draw: random.Random) -> Ranking:
        temperature = _temperature(query.parameters)
        log_weights = [candidate.score / temperature for candidate in candidates.items]
        if not all(map(math.isfinite, log_weights)):
            raise RankerError("bad_parameter", f"temperature {temperature} is too low for the catalogue's scores")
        order = sample_order(log_weights, draw)
        chances = slate_log_propensities([log_weights[place] for place in order], query.k)
        ranked = [Ranked(candidates.items[place], math.exp(chance)) for place, chance in zip(order, chances, strict=False)]
        return Ranking(tuple(ranked), math.fsum(chances))


def sample_order(log_weights: Sequence[float], draw: random.Random) -> list[int]:
    """All places, in the order in which they finish the race."""
    finish = [math.log(draw.expovariate(1.0) or sys.float_info.min) - weight for weight in log_weights]
    return sorted(range(len(finish)), key=finish.__getitem__)


def slate_log_propensities(log_weights: Sequence[float], k: int) -> list[float]:
    """The logs of P(item | items above it) of the first `k`, given the log weights of all items in the order drawn."""
    k = min(k, len(log_weights))
    left = _log_sum(log_weights[k:])
    chances = []
    for weight in reversed(log_weights[:k]):
        left = _log_add(left, weight)
        chances.append(weight - left)
    return chances[::-1]


def _temperature(parameters: Mapping[str, str]) -> float:
    raw = parameters.get("temperature", "1")
    try:
        temperature = float(raw)
    except ValueError:
        temperature = math.nan
    if not 0 < temperature < math.inf:
        raise RankerError("bad_parameter", f"temperature {raw!r} is not a number above 0")
    return temperature


def _log_sum(logs: Sequence[float]) -> float:
    if not logs:
        return -math.inf
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))


def _log_add(one: float, other: float) -> float:
    """log(e^one + e^other)."""
    low, high = sorted((one, other))
    return high + math.log1p(math.exp(low - high))
