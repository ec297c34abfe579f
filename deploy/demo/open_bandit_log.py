"""The sample of the Open Bandit Dataset that the repository keeps, row by row as the shop logged it. Source: data/README.md."""

import csv
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.events import Micros

SAMPLE = Path(__file__).parent / "data" / "open_bandit.csv.xz"

POLICIES = ("random", "bts")
"""Uniform choice, and Bernoulli Thompson sampling."""

CAMPAIGNS = ("all", "men", "women")

SLATE_ITEMS = 3
"""Each row is one slot of a slate of so many items; the log does not say which rows were one slate."""

FEATURES = ("user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3")

COLUMNS = ("policy", "campaign", "timestamp", "item_id", "position", "click", "propensity_score", *FEATURES)

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Impression:
    """One row of one log: an item shown in one place of a slate of three. `row` counts from 0 within the log."""

    policy: str
    campaign: str
    row: int
    shown_at: Micros
    item_id: str
    position: int
    clicked: bool
    propensity: float
    features: tuple[str, ...]


def load_sample(path: Path = SAMPLE) -> list[Impression]:
    """Every impression, log after log, in the order of each log."""
    with lzma.open(path, "rt", encoding="ascii", newline="") as lines:
        return list(parse_sample(lines))


def parse_sample(lines: Iterable[str]) -> Iterator[Impression]:
    """Impressions from CSV lines with the header COLUMNS.

    Raises ValueError where the header or a field is not as expected.
    """
    table = csv.reader(lines)
    if (header := tuple(next(table, ()))) != COLUMNS:
        raise ValueError(f"the sample's columns are {header}, not {COLUMNS}")
    rows_seen: dict[tuple[str, str], int] = {}
    for policy, campaign, timestamp, item_id, position, click, propensity, *features in table:
        row = rows_seen.get((policy, campaign), 0)
        rows_seen[policy, campaign] = row + 1
        yield Impression(
            policy=policy,
            campaign=campaign,
            row=row,
            shown_at=_micros(timestamp),
            item_id=item_id,
            position=int(position),
            clicked=bool(int(click)),
            propensity=float(propensity),
            features=tuple(features),
        )


def _micros(timestamp: str) -> Micros:
    """`timestamp` is ISO 8601 with its offset; the integer division keeps every microsecond."""
    return Micros((datetime.fromisoformat(timestamp) - _EPOCH) // _MICROSECOND)
