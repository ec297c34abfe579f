"""Whether the arms' sizes fit the weights that they were drawn with. Pure; the tests are scipy's.

A mismatch means that units were lost or doubled on the way unlike in the arms, so that nothing that compares the arms can be
read. Source: Fabijan et al. (2019), "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments".
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

from scipy import stats

from analytics.statistics.estimates import PValue

ALARM_BELOW = 0.001
EXACT_UNITS_MAX = 1000
EXACT_OUTCOMES_MAX = 20_000

_TIES = 1 + 1e-7
"""Outcomes as likely as the one seen count as such in spite of rounding, as in scipy's binomtest."""


def sample_ratio(units: Mapping[str, int], weights: Mapping[str, float]) -> PValue:
    """The p-value of `units` by arm under `weights` by arm. An arm that stands in one of the two only has 0 in the other."""
    arms = sorted(units.keys() | weights.keys())
    counts = [units.get(arm, 0) for arm in arms]
    total = sum(weights.values())
    if total <= 0 or sum(counts) == 0:
        return PValue("none", reason="no weights" if total <= 0 else "no units")
    if strays := [arm for arm in arms if units.get(arm, 0) and not weights.get(arm, 0)]:
        return PValue("impossible outcome", 0.0, f"units in {', '.join(strays)}, which has no weight")
    drawn = [(units.get(arm, 0), weights[arm] / total) for arm in arms if weights.get(arm, 0)]
    if len(drawn) < 2:
        return PValue("none", reason="one arm only")
    return _test([count for count, _ in drawn], [share for _, share in drawn])


def _test(counts: Sequence[int], shares: Sequence[float]) -> PValue:
    n = sum(counts)
    if len(counts) == 2 and n < EXACT_UNITS_MAX:
        return PValue("exact binomial", float(stats.binomtest(counts[0], n, shares[0]).pvalue))
    if len(counts) > 2 and math.comb(n + len(counts) - 1, len(counts) - 1) <= EXACT_OUTCOMES_MAX:
        return PValue("exact multinomial", _exact(counts, shares))
    expected = [n * share for share in shares]
    return PValue("chi-square", float(stats.chisquare(counts, expected).pvalue))


def _exact(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The probability of all outcomes that are at most as likely as the one seen."""
    n, arms = sum(counts), len(counts)
    # Stars and bars: every way to place arms − 1 bars among n stars is one way to share n units out.
    places = combinations(range(n + arms - 1), arms - 1)
    outcomes = [[right - left - 1 for left, right in pairwise((-1, *bars, n + arms - 1))] for bars in places]
    likelihoods = stats.multinomial.pmf(outcomes, n, list(shares))
    seen = stats.multinomial.pmf(list(counts), n, list(shares))
    return min(1.0, float(likelihoods[likelihoods <= seen * _TIES].sum()))
