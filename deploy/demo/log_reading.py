"""What the scorecards of the log say together, and what they cannot show. Pure: every figure comes from the cards and counts."""

import dataclasses
from collections.abc import Mapping, Sequence

from analytics.results import Comparison, Remark, Scorecard
from analytics.statistics.estimates import ALPHA, POWER
from analytics.statistics.multiplicity import HOLM, adjust
from deploy.demo.open_bandit_log import SLATE_ITEMS
from deploy.demo.stored_events import ArmTotals

METRIC = "clicks_per_unit"
"""The unit is the impression, so these are clicks an impression."""

CONTROL, ARM = "random", "bts"


@dataclasses.dataclass(frozen=True, slots=True)
class LogReading:
    """By experiment: the p-value adjusted for all of them, and the smallest relative effect that could have been seen."""

    method: str
    p_adjusted: Mapping[str, float | None]
    detectable: Mapping[str, float | None]
    totals: tuple[ArmTotals, ...]


def read_log(cards: Sequence[Scorecard], totals: Sequence[ArmTotals]) -> LogReading:
    """`cards` of the log's experiments, each with METRIC."""
    compared = {card.experiment_id: card.comparison(METRIC, ARM) for card in cards}
    return LogReading(
        method=HOLM,
        p_adjusted=adjust({experiment: comparison.difference.p.value for experiment, comparison in compared.items()}),
        detectable={experiment: _detectable(comparison) for experiment, comparison in compared.items()},
        totals=tuple(total for total in totals if total.experiment_id in compared),
    )


def with_remarks(card: Scorecard, reading: LogReading) -> Scorecard:
    """`card`, with what is known of this log and a scorecard alone cannot know."""
    return dataclasses.replace(card, caveats=(*card.caveats, *remarks(reading)))


def remarks(reading: LogReading) -> tuple[Remark, ...]:
    return _slates(), _sampled(reading), _corrected(reading), _few_clicks(reading)


def _detectable(comparison: Comparison) -> float | None:
    return comparison.detectable.relative


def _slates() -> Remark:
    text = (
        f"Rows are slots of slates of {SLATE_ITEMS} items, and one person may have seen many: rows are not independent, so the "
        "intervals are optimistic."
    )
    return Remark("slots_of_slates", text)


def _sampled(reading: LogReading) -> Remark:
    sizes = " or ".join(f"{size:,}" for size in sorted({total.answers for total in reading.totals}))
    return Remark("size_fixed_by_sampling", f"{sizes} rows a log was fixed by sampling: a sample-ratio check says nothing here.")


def _corrected(reading: LogReading) -> Remark:
    figures = ", ".join(f"{experiment} {'–' if p is None else f'{p:.3g}'}" for experiment, p in reading.p_adjusted.items())
    campaigns = len(reading.p_adjusted)
    text = f"{campaigns} campaigns ask the same question and need a correction. p adjusted, {reading.method}: {figures}."
    return Remark("campaigns_corrected", text)


def _few_clicks(reading: LogReading) -> Remark:
    clicks = [total.clicks for total in reading.totals]
    visible = [effect for effect in reading.detectable.values() if effect is not None]
    text = (
        f"With {min(clicks, default=0)}–{max(clicks, default=0)} clicks a log, only effects of {_range(visible)} could have been "
        f"seen (power {POWER:.0%}, α {ALPHA:g}): “no difference” means little."
    )
    return Remark("few_clicks", text)


def _range(effects: Sequence[float]) -> str:
    if not effects:
        return "unknown size"
    low, high = f"{min(effects):.0%}", f"{max(effects):.0%}"
    return low if low == high else f"{low} to {high}"
