"""A scorecard as JSON: every field under its own name, times as microseconds since 1970; no NaN, but null and a reason."""

import dataclasses
import json
from typing import Any

from analytics.results import Scorecard

SCHEMA_VERSION = 2
"""Grows when a field is removed or changes its meaning; new fields may come without."""


def as_document(card: Scorecard) -> dict[str, Any]:
    """The scorecard as plain values, `schema_version` first."""
    document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(card)}
    for arm, plain in zip(card.arms, document["arms"], strict=True):
        plain["counts"]["degraded_share"] = arm.counts.degraded_share
    return document


def render(card: Scorecard) -> str:
    return json.dumps(as_document(card), allow_nan=False, ensure_ascii=False, indent=2)
