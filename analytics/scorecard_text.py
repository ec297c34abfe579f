"""A scorecard as text for a terminal: aligned columns, no colours, what forbids to read it first."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from analytics.results import Arm, Comparison, MetricResult, SampleRatio, Scorecard
from analytics.statistics.estimates import Estimate
from schemas.events import Micros

_NONE = "–"

Rows = Sequence[Sequence[str]]


def render(card: Scorecard) -> str:
    figures = (_head(card), _alarms(card), _arms(card), _comparisons(card), _checks(card), _left_out(card))
    sections = (*figures, _caveats(card), _as_of(card))
    return "\n\n".join("\n".join(lines) for section in sections if (lines := list(section)))


def _head(card: Scorecard) -> Iterator[str]:
    if (definition := card.definition) is None:
        yield f"Scorecard of {card.experiment_id} (no definition)"
    else:
        about = f"{definition.kind}, {definition.status}, revision {definition.revision}, unit {definition.unit_type}"
        yield f"Scorecard of {card.experiment_id} ({about})"
        yield f"  hypothesis: {definition.hypothesis}"
    yield f"  traffic {card.traffic}, control {card.control or _NONE}"


def _alarms(card: Scorecard) -> Iterator[str]:
    for alarm in card.alarms:
        yield f"ALARM {alarm.text}"


def _arms(card: Scorecard) -> Iterator[str]:
    if not card.arms:
        yield "No arm and no exposure: there is nothing to compare yet."
        return
    header = ["arm", "units", "crossovers", "exposed requests", "degraded", *(metric.name for metric in card.metrics)]
    yield from _table([header, *(_arm_row(arm, card.metrics) for arm in card.arms)])


def _arm_row(arm: Arm, metrics: Sequence[MetricResult]) -> list[str]:
    counts = arm.counts
    means = (_number(arm.metric_means[metric.name]) for metric in metrics)
    name = f"{arm.name} (control)" if arm.is_control else arm.name
    sizes = [f"{count:,}" for count in (counts.units, counts.crossovers, counts.exposed_requests)]
    return [name, *sizes, _percent(counts.degraded_share), *means]


def _comparisons(card: Scorecard) -> Iterator[str]:
    rows = [_comparison_row(metric, comparison) for metric in card.metrics for comparison in metric.comparisons]
    if not rows:
        return
    yield "Differences from the control (smallest visible: the relative effect that 80 % power at α 0.05 would have shown)"
    header = ["metric", "arm", "difference", "95 % interval", "relative", "95 % interval", "p", "smallest visible", "reading"]
    yield from _table([header, *rows])
    yield from _reasons(card.metrics)
    yield from _methods(card.metrics)


def _comparison_row(metric: MetricResult, comparison: Comparison) -> list[str]:
    difference = comparison.difference
    absolute, relative = difference.absolute, difference.relative
    return [
        metric.name,
        comparison.arm,
        _signed_number(absolute.value),
        _interval(absolute, _signed_number),
        _signed_percent(relative.value),
        _interval(relative, _signed_percent),
        _NONE if difference.p.value is None else f"{difference.p.value:.3g}",
        _NONE if comparison.detectable.relative is None else f"±{_percent(comparison.detectable.relative)}",
        f"{comparison.reading}",
    ]


def _reasons(metrics: Sequence[MetricResult]) -> Iterator[str]:
    for metric in metrics:
        for comparison in metric.comparisons:
            difference = comparison.difference
            reasons = (difference.absolute.reason, difference.relative.reason, difference.p.reason, comparison.detectable.reason)
            for reason in dict.fromkeys(reason for reason in reasons if reason):
                yield f"  {_NONE} {metric.name}, {comparison.arm}: {reason}"


def _methods(metrics: Sequence[MetricResult]) -> Iterator[str]:
    for metric in metrics:
        if not metric.comparisons:
            continue
        first = metric.comparisons[0].difference
        limits = [f"within {metric.window_hours} h"] if metric.window_hours else []
        limits += [f"on {metric.surface}"] if metric.surface else []
        scope = ", ".join([metric.unit_of_measure, f"{metric.better} is better", *limits])
        yield f"  {metric.name}: {scope}. Difference and p: {first.absolute.method}; relative: {first.relative.method}"


def _checks(card: Scorecard) -> Iterator[str]:
    for check in card.sample_ratio:
        yield f"Sample ratio, revision {', '.join(map(str, check.revisions))}: {_check(check)}"


def _check(check: SampleRatio) -> str:
    sizes = ", ".join(
        f"{arm} {units:,} ({_percent(check.expected_shares.get(arm))} expected)" for arm, units in check.units.items()
    )
    if check.p_value is None:
        return f"not checked: {check.reason}; {sizes}"
    verdict = "MISMATCH" if check.alarm else "fits"
    because = f" ({check.reason})" if check.reason else ""
    return f"{verdict}, p {check.p_value:.3g}, {check.method}{because}; {sizes}"


def _left_out(card: Scorecard) -> Iterator[str]:
    left, arrival = card.left_out, card.completeness
    yield "Left out, and arrived"
    others = ", ".join(f"{o.traffic} {o.units:,} units with {o.exposed_requests:,} requests" for o in left.other_traffic)
    emitted = "unknown" if arrival.exposures_emitted is None else f"{arrival.exposures_emitted:,}"
    newest = _NONE if arrival.newest_arrival_at is None else _time(arrival.newest_arrival_at)
    yield from _table(
        [
            ["other traffic", others or "none"],
            ["interactions before the first exposure", f"{left.interactions_before_exposure:,}"],
            ["duplicates", f"{left.duplicate_recommendations:,} recommendations, {left.duplicate_interactions:,} interactions"],
            ["wrong clocks", f"{left.events_with_wrong_clocks:,} events, counted as of when Kafka took them"],
            ["assigned, never exposed", f"{left.units_never_exposed:,} units"],
            ["assigned, not exposed", f"{left.requests_not_exposed:,} requests"],
            ["exposures emitted", f"{emitted}, arrived {arrival.exposures_arrived:,} (all traffic), newest {newest}"],
            ["dead letters in the warehouse", f"{arrival.dead_letters:,}"],
        ],
        text_columns=2,
    )


def _caveats(card: Scorecard) -> Iterator[str]:
    if card.caveats:
        yield "What it cannot show"
    for remark in card.caveats:
        yield f"  · {remark.text}"


def _as_of(card: Scorecard) -> Iterator[str]:
    yield "Counted below these offsets (--json prints them for --as-of)"
    for topic in card.as_of.topics:
        yield f"  {topic.topic} {topic.topic_id}: {' '.join(f'{number}:{end}' for number, end in topic.ends.items())}"
    if card.as_of.repairs_until is not None:
        yield f"  repaired dead letters up to {_time(card.as_of.repairs_until)}"


def _table(rows: Rows, text_columns: int = 1) -> Iterator[str]:
    """Aligned: the first `text_columns` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:text_columns], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[text_columns:], widths[text_columns:], strict=True)]
        yield f"  {'  '.join([*left, *right])}".rstrip()


def _interval(estimate: Estimate, shown: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return _NONE
    return f"[{shown(estimate.low)}, {shown(estimate.high)}]"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"


def _signed_number(value: float | None) -> str:
    return _NONE if value is None else f"{value:+.4g}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{share:.1%}"


def _signed_percent(share: float | None) -> str:
    return _NONE if share is None else f"{share:+.1%}"


def _time(at: Micros) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
