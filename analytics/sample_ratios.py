"""The sample-ratio check of an experiment: once where all revisions share their weights, else once for each set of weights.

A unit counts under the revision that it was first exposed under. Pure.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import gcd

from analytics.results import Cell, Definition, SampleRatio
from analytics.statistics.estimates import PValue
from analytics.statistics.sample_ratio import ALARM_BELOW, sample_ratio
from schemas.events import ExperimentKind

_Weights = tuple[tuple[str, int], ...]


def sample_ratios(definitions: Sequence[Definition], cells: Sequence[Cell]) -> tuple[SampleRatio, ...]:
    """One check for each set of weights under which units were exposed."""
    defined = {definition.revision: definition for definition in definitions}
    groups: dict[_Weights, list[int]] = defaultdict(list)
    for revision in sorted({cell.revision for cell in cells}):
        groups[_shares(defined.get(revision))].append(revision)
    return tuple(_check(revisions, dict(weights), defined, cells) for weights, revisions in groups.items())


def _shares(definition: Definition | None) -> _Weights:
    """The weights in lowest terms, so that 1:1 and 50:50 are the same; nothing where the revision is not known."""
    if definition is None:
        return ()
    divisor = gcd(*definition.weights.values()) or 1
    return tuple(sorted((arm, weight // divisor) for arm, weight in definition.weights.items()))


def _check(
    revisions: Sequence[int], weights: Mapping[str, int], defined: Mapping[int, Definition], cells: Iterable[Cell]
) -> SampleRatio:
    units: Counter[str] = Counter(dict.fromkeys(weights, 0))
    for cell in cells:
        if cell.revision in revisions:
            units[cell.arm] += cell.counts.units
    p = _p_value(units, weights, defined.get(revisions[0]))
    total = sum(weights.values())
    return SampleRatio(
        revisions=tuple(revisions),
        units=dict(units),
        expected_shares={arm: weight / total for arm, weight in weights.items()} if total else {},
        p_value=p.value,
        method=p.method,
        alarm=p.value is not None and p.value < ALARM_BELOW,
        reason=p.reason,
    )


def _p_value(units: Mapping[str, int], weights: Mapping[str, int], definition: Definition | None) -> PValue:
    if definition is None:
        return PValue("none", reason="the revision's definition is not in the warehouse")
    if definition.kind == ExperimentKind.OBSERVED and not any(weights.values()):
        return PValue("none", reason="observed: assigned elsewhere, with no weights known")
    return sample_ratio(units, weights)
