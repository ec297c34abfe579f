"""From blocks of load to what a disturbance costs. Pure.

Every round has one block of each condition in a drawn order, and two blocks that nobody disturbs, of each worker. A condition's
ratio in a round is its figure over that of its worker's first undisturbed block; the second undisturbed block over the first says
what chance alone does (A/A). Shown is the median over the rounds with its one-sided 95 % bound by bootstrap. The excess is the
bound over the bound of A/A: what the disturbance costs beyond what two undisturbed blocks differ by.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.blast_radius.load import Block

PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
RESAMPLES = 2_000
BOUND = 0.95
UNTOUCHED, AGAIN = "untouched", "untouched again"
BEHAVED, BEHAVED_AGAIN = "all policies behave", "all policies behave again"
TWICE = {UNTOUCHED: AGAIN, BEHAVED: BEHAVED_AGAIN}
"""The undisturbed blocks, and which is the other of the same worker and the same requests."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a condition does to one figure: milliseconds (median over the rounds), ratios."""

    base_ms: float
    condition_ms: float
    ratio: float
    bound: float
    excess: float


Round = Mapping[str, Block]


def latency_ms(block: Block, share: float) -> float:
    """The latency below which `share` of the answered requests lie, but for those of moments when the machine was slow."""
    answered = sorted(block.calm_ms)
    return answered[min(len(answered) - 1, int(len(answered) * share))]


def effects(rounds: Sequence[Round], condition: str, base: str = UNTOUCHED) -> dict[str, Effect]:
    """By figure: what `condition` is beside `base`."""
    return {name: _effect(rounds, condition, base, share) for name, share in PERCENTILES.items()}


def _effect(rounds: Sequence[Round], condition: str, base: str, share: float) -> Effect:
    ratios = _ratios(rounds, condition, base, share)
    first = base if base in TWICE else UNTOUCHED
    bound, chance = upper_bound(ratios), upper_bound(_ratios(rounds, TWICE[first], first, share))
    return Effect(
        statistics.median(latency_ms(blocks[base], share) for blocks in rounds),
        statistics.median(latency_ms(blocks[condition], share) for blocks in rounds),
        statistics.median(ratios),
        bound,
        bound / max(1.0, chance),
    )


def _ratios(rounds: Sequence[Round], condition: str, base: str, share: float) -> list[float]:
    return [latency_ms(blocks[condition], share) / latency_ms(blocks[base], share) for blocks in rounds]


def upper_bound(values: Sequence[float]) -> float:
    """The one-sided bound of the median, by a seeded bootstrap."""
    draw = random.Random(2026)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(RESAMPLES * BOUND)]


def failed(rounds: Sequence[Round], condition: str) -> int:
    """Requests without an answer of 200."""
    return sum(blocks[condition].failed for blocks in rounds)


def same_bytes(rounds: Sequence[Round], condition: str, base: str = UNTOUCHED) -> bool:
    """Whether every block of the condition answered as all those of `base` did."""
    answers = {tuple(blocks[name].digests) for blocks in rounds for name in (condition, base)}
    return len(answers) == 1
