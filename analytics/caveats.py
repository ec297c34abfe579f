"""What a scorecard cannot show, as data. Pure: derived from the definition, the counts and the figures alone.

Whoever knows more of an experiment's data adds remarks of their own to the scorecard's `caveats`.
"""

from collections.abc import Iterator, Sequence

from analytics.results import Arm, Completeness, Definition, MetricResult, Reading, Remark
from analytics.statistics.estimates import ALPHA
from schemas.events import ExperimentKind

FEW_UNITS_IN_ARM = 30


def caveats(
    definition: Definition | None, arms: Sequence[Arm], metrics: Sequence[MetricResult], completeness: Completeness
) -> tuple[Remark, ...]:
    """In the order in which they should be read."""
    return (
        *_of_definition(definition),
        *_of_units(definition, arms),
        *_of_comparisons(metrics),
        *_of_arrival(completeness),
    )


def _of_definition(definition: Definition | None) -> Iterator[Remark]:
    if definition is None:
        yield Remark(
            "no_definition", "No definition of this experiment has arrived: no weights, kind or order of arms are known."
        )
    elif definition.kind == ExperimentKind.OBSERVED:
        yield Remark(
            "not_randomised_here",
            "Observed: the arms were assigned elsewhere and only logged here. A difference is an effect of the arm only if that "
            "assignment was random.",
        )
        yield Remark(
            "weights_of_a_log",
            "Observed: how many units a log holds for each arm may have been fixed when it was sampled. Then a sample-ratio "
            "check says nothing, however well it fits.",
        )


def _of_units(definition: Definition | None, arms: Sequence[Arm]) -> Iterator[Remark]:
    if definition is not None and definition.unit_type == "impression":
        yield Remark(
            "units_not_independent",
            "The unit is the impression: impressions of one answer or one person are not independent, so the intervals are "
            "narrower and the p-values smaller than they should be.",
        )
    if few := [arm.name for arm in arms if 0 < arm.counts.units < FEW_UNITS_IN_ARM]:
        yield Remark("few_units", f"Fewer than {FEW_UNITS_IN_ARM} units in {', '.join(few)}: Welch's t leans on larger samples.")


def _of_comparisons(metrics: Sequence[MetricResult]) -> Iterator[Remark]:
    tested = [c for metric in metrics for c in metric.comparisons if c.difference.p.value is not None]
    if len(tested) > 1:
        yield Remark("uncorrected", f"{len(tested)} comparisons stand here, each at α {ALPHA:g}, none corrected for the others.")
    if any(comparison.reading is Reading.NOT_SEEN for comparison in tested):
        yield Remark(
            "absence_is_not_evidence",
            "“No difference seen” is no evidence that there is none: look at the interval, and at the smallest effect that could "
            "have been seen.",
        )


def _of_arrival(completeness: Completeness) -> Iterator[Remark]:
    emitted, arrived = completeness.exposures_emitted, completeness.exposures_arrived
    if emitted is None:
        yield Remark("completeness_unknown", "No emitter's checkpoint names this experiment: whether all has arrived is unknown.")
    elif emitted > arrived:
        yield Remark("incomplete", f"{emitted - arrived} of {emitted} exposures that were emitted have not arrived.")
    if completeness.emitters_open:
        yield Remark("emitters_open", f"{completeness.emitters_open} of {completeness.emitters} emitters have not closed.")
