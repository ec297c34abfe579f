"""Many questions at once. Pure; the procedure is tea-tasting's."""

from collections.abc import Mapping
from typing import TypeVar

import tea_tasting
from tea_tasting.experiment import ExperimentResult

from analytics.statistics.estimates import ALPHA

K = TypeVar("K")

HOLM = "Holm (Bonferroni step-down)"

_ONE_TEST = "test"


def adjust(p_values: Mapping[K, float | None]) -> dict[K, float | None]:
    """Each p-value adjusted by Holm's procedure for all that are given, whatever their dependence. Compare it with α as it is.

    A None is a question that had no test: it stays None and does not count. Source: Holm (1979), "A Simple Sequentially Rejective
    Multiple Test Procedure".
    """
    tests = {key: ExperimentResult({_ONE_TEST: {"pvalue": p}}) for key, p in p_values.items() if p is not None}
    if not tests:
        return dict.fromkeys(p_values)
    adjusted = tea_tasting.adjust_fwer(tests, alpha=ALPHA, arbitrary_dependence=True, method="bonferroni")
    return {key: float(adjusted[key][_ONE_TEST]["pvalue_adj"]) if key in tests else None for key in p_values}
