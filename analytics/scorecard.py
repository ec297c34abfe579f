"""Did it work? Puts an experiment's counts, moments and definition together into one immutable scorecard.

`scorecard` asks the warehouse; `assemble` is pure. Verdicts are intention-to-treat: a unit counts under the arm that answered it
first, degraded answers stay in, and a metric's clock starts at the unit's first exposure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from analytics.as_of import AsOf
from analytics.caveats import caveats
from analytics.errors import UnknownExperiment, UnknownName
from analytics.metrics_catalog import Direction, Metric
from analytics.moments import Moments
from analytics.results import (
    Arm,
    ArmCounts,
    Cell,
    Comparison,
    Completeness,
    Definition,
    LeftOut,
    MetricResult,
    Reading,
    Remark,
    SampleRatio,
    Scorecard,
)
from analytics.sample_ratios import sample_ratios
from analytics.statistics.comparison import DENOMINATOR, NUMERATOR, Difference, compare, detectable, metric_mean
from analytics.statistics.estimates import ALPHA
from analytics.warehouse import Warehouse
from schemas.events import Micros, Traffic

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Question:
    """`control` of None: the arm named `control`, else the first of the newest definition. `as_of`: the ends of an earlier
    scorecard, or the moment before which Kafka took what counts; None: all that is in.
    """

    experiment_id: str
    metrics: tuple[Metric, ...]
    traffic: Traffic = Traffic.LIVE
    control: str | None = None
    as_of: AsOf | Micros | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the warehouse said, of what lies below the ends of `as_of`."""

    as_of: AsOf
    definitions: tuple[Definition, ...]
    cells: tuple[Cell, ...]
    left_out: LeftOut
    completeness: Completeness


def scorecard(warehouse: Warehouse, question: Question) -> Scorecard:
    """Raises UnknownExperiment, UnknownName (of the control arm), PartUnreachable."""
    as_of = question.as_of if isinstance(question.as_of, AsOf) else warehouse.as_of(question.as_of)
    snapshot = warehouse.snapshot(as_of)
    definitions = snapshot.definitions(question.experiment_id)
    completeness = snapshot.completeness(question.experiment_id)
    if not definitions and not completeness.exposures_arrived:
        raise UnknownExperiment(question.experiment_id, snapshot.known_experiments())
    cells = snapshot.cells(question.experiment_id, question.traffic, question.metrics)
    early = sum(cell.counts.interactions_before_exposure for cell in cells)
    left_out = snapshot.left_out(question.experiment_id, question.traffic, early)
    return assemble(question, Answers(as_of, definitions, cells, left_out, completeness))


def assemble(question: Question, answers: Answers) -> Scorecard:
    """The scorecard that follows from what the warehouse said. Raises UnknownName where there is no such control arm."""
    newest = answers.definitions[-1] if answers.definitions else None
    names = _arm_names(newest, answers.cells)
    control = _control(question.control, names)
    checks = sample_ratios(answers.definitions, answers.cells)
    alarms = _alarms(checks, answers.cells)
    readable = not any(check.alarm for check in checks)
    moments = {name: _moments_of(name, question.metrics, answers.cells) for name in names}
    arms = tuple(_arm(name, control, moments[name], answers.cells) for name in names)
    metrics = tuple(_metric_result(metric, control, moments, readable=readable) for metric in question.metrics)
    return Scorecard(
        experiment_id=question.experiment_id,
        definition=newest,
        revisions_exposed=tuple(sorted({cell.revision for cell in answers.cells})),
        traffic=question.traffic,
        control=control,
        as_of=answers.as_of,
        readable=readable,
        arms=arms,
        metrics=metrics,
        sample_ratio=checks,
        left_out=answers.left_out,
        completeness=answers.completeness,
        alarms=alarms,
        caveats=caveats(newest, arms, metrics, answers.completeness),
    )


def _arm_names(newest: Definition | None, cells: Sequence[Cell]) -> tuple[str, ...]:
    """The arms in the order of the newest definition, then those that only the exposures know."""
    defined = tuple(newest.weights) if newest else ()
    return tuple(dict.fromkeys((*defined, *sorted({cell.arm for cell in cells}))))


def _control(asked: str | None, names: Sequence[str]) -> str | None:
    if asked is not None and asked not in names:
        raise UnknownName("arm", asked, names)
    if asked is not None or not names:
        return asked
    return CONTROL if CONTROL in names else names[0]


def _moments_of(arm: str, metrics: Sequence[Metric], cells: Sequence[Cell]) -> Mapping[str, Moments | None]:
    """By metric: the arm's moments over all revisions, None where it has no unit."""
    own = [cell for cell in cells if cell.arm == arm]
    return {metric.name: reduce(add, (cell.moments[metric.name] for cell in own)) if own else None for metric in metrics}


def _arm(name: str, control: str | None, moments: Mapping[str, Moments | None], cells: Sequence[Cell]) -> Arm:
    counts = sum((cell.counts for cell in cells if cell.arm == name), ArmCounts())
    means = {metric: metric_mean(found) if found else None for metric, found in moments.items()}
    return Arm(name, name == control, counts, means)


def _metric_result(
    metric: Metric, control: str | None, moments: Mapping[str, Mapping[str, Moments | None]], *, readable: bool
) -> MetricResult:
    return MetricResult(
        name=metric.name,
        title=metric.title,
        unit_of_measure=metric.unit_of_measure,
        better=metric.better,
        surface=metric.surface,
        window_hours=metric.window_hours,
        comparisons=tuple(
            _comparison(metric, arm, control, moments, readable=readable)
            for arm in moments
            if control is not None and arm != control
        ),
    )


def _comparison(
    metric: Metric, arm: str, control: str, moments: Mapping[str, Mapping[str, Moments | None]], *, readable: bool
) -> Comparison:
    base, other = (moments[name][metric.name] or _no_units(metric) for name in (control, arm))
    difference = compare(base, other)
    reading = _reading(difference, metric.better) if readable else Reading.WITHHELD
    return Comparison(arm, control, difference, detectable(base, other), reading)


def _reading(difference: Difference, better: Direction) -> Reading:
    p, value = difference.p.value, difference.absolute.value
    if p is None or value is None:
        return Reading.NONE
    if p >= ALPHA:
        return Reading.NOT_SEEN
    return Reading.BETTER if (value > 0) == (better is Direction.HIGHER) else Reading.WORSE


def _alarms(checks: Sequence[SampleRatio], cells: Sequence[Cell]) -> tuple[Remark, ...]:
    alarms = [
        Remark("sample_ratio_mismatch", f"Do not read: the arms' sizes do not fit their weights (p {check.p_value:.2g}).")
        for check in checks
        if check.alarm
    ]
    if crossed := sum(cell.counts.crossovers for cell in cells):
        alarms.append(Remark("crossovers", f"{crossed} units were answered by more than one arm; each keeps its first."))
    return tuple(alarms)


def _no_units(metric: Metric) -> Moments:
    names = (NUMERATOR, DENOMINATOR) if metric.denominator else (NUMERATOR,)
    return Moments(0, dict.fromkeys(names, 0.0), {})
