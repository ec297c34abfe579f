"""A part of the benchmark: what it measures, and how it shows it. Raw figures are JSON, so that any can be shown again later."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.ground import Ground
from tests.benchmarks.presentation import Section


@dataclass(frozen=True, slots=True)
class Asked:
    """`found` holds what earlier parts of the same run have measured."""

    quick: bool = False
    outage_minutes: float = 1.0
    found: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    measure: Callable[[Ground, Asked], dict[str, Any]]
    present: Callable[[Mapping[str, Any]], Section]
