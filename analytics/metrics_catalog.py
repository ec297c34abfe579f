"""Metrics as data: reviewed TOML files, one a metric, named after it. They hold no SQL; `queries.py` knows how each is computed.

A file has `title`, `description`, `unit_of_measure`, `kind` (mean, share or ratio), `better` (higher or lower) and, where wanted,
`window_hours` (what a unit does later than this after its first exposure does not count) and `surface` (only what happened
there). A mean or a share (whether the value is above zero) has a table `[value]`, a ratio `[numerator]` and `[denominator]`. Each
says its `source` (interactions, requests, slots, degraded_requests), its `aggregate` (count; sum for the values of interactions
or for the slots of answers) and, for interactions, the kind in `interaction`.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from analytics.errors import UnknownName
from schemas.errors import ConfigurationError

WINDOW_HOURS_MAX = 24 * 366

_TEXTS = ("title", "description", "unit_of_measure")
_OPTIONAL = ("window_hours", "surface")
_MEASURE_KEYS = {"source", "aggregate", "interaction"}


class MetricKind(StrEnum):
    MEAN = "mean"
    SHARE = "share"
    RATIO = "ratio"


class Direction(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


class Source(StrEnum):
    """What a unit did or got. Everything counts from its first exposure on."""

    INTERACTIONS = "interactions"
    REQUESTS = "requests"
    """Answered requests, degraded ones included; a flag's evaluation is none."""
    SLOTS = "slots"
    DEGRADED_REQUESTS = "degraded_requests"


class Aggregate(StrEnum):
    COUNT = "count"
    SUM = "sum"


_AGGREGATES = {
    Source.INTERACTIONS: {Aggregate.COUNT, Aggregate.SUM},
    Source.REQUESTS: {Aggregate.COUNT},
    Source.SLOTS: {Aggregate.SUM},
    Source.DEGRADED_REQUESTS: {Aggregate.COUNT},
}

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Measure:
    """One number for each unit. `interaction` is the kind of the interactions that count, None for other sources."""

    source: Source
    aggregate: Aggregate
    interaction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """`numerator` alone where the metric is a mean or a share; a ratio is the sum of the one over the sum of the other."""

    name: str
    title: str
    description: str
    unit_of_measure: str
    kind: MetricKind
    better: Direction
    numerator: Measure
    denominator: Measure | None = None
    window_hours: int | None = None
    surface: str | None = None


def load_catalog(directories: Iterable[Path]) -> dict[str, Metric]:
    """Every metric by name, in the order of directories and names.

    Raises ConfigurationError with one sentence for each thing that is wrong in any of the files.
    """
    metrics: dict[str, Metric] = {}
    problems: list[str] = []
    for path in (path for directory in directories for path in sorted(directory.glob("*.toml"))):
        if path.stem in metrics:
            problems.append(f"{path}: there is a metric {path.stem!r} already")
            continue
        reader = _Reader(path, problems)
        if (metric := reader.metric()) is not None:
            metrics[path.stem] = metric
    if problems:
        raise ConfigurationError(tuple(problems))
    return metrics


def choose(catalog: Mapping[str, Metric], names: Iterable[str]) -> tuple[Metric, ...]:
    """The named metrics, or all where none is named. Raises UnknownName."""
    chosen = tuple(dict.fromkeys(names)) or tuple(catalog)
    for name in chosen:
        if name not in catalog:
            raise UnknownName("metric", name, tuple(catalog))
    return tuple(catalog[name] for name in chosen)


class _Reader:
    """Reads one file and notes all that is wrong with it; what it returns is to be used only where nothing was."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self._path = path
        self._problems = problems
        self._known_problems = len(problems)
        self._table = self._parse()

    def metric(self) -> Metric | None:
        kind = self._choice(MetricKind, self._table, "kind", MetricKind.MEAN)
        parts = ("numerator", "denominator") if kind is MetricKind.RATIO else ("value",)
        self._refuse_unknown_keys(self._table, {*_TEXTS, *_OPTIONAL, "kind", "better", *parts}, "")
        measures = [self._measure(part) for part in parts]
        texts = {key: self._text(self._table, key) for key in _TEXTS}
        metric = Metric(
            name=self._path.stem,
            kind=kind,
            better=self._choice(Direction, self._table, "better", Direction.HIGHER),
            numerator=measures[0],
            denominator=measures[1] if len(measures) > 1 else None,
            window_hours=self._window(),
            surface=self._text(self._table, "surface") if "surface" in self._table else None,
            **texts,
        )
        return metric if len(self._problems) == self._known_problems else None

    def _parse(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._problem(f"does not read as TOML: {error}")
            return {}

    def _measure(self, part: str) -> Measure:
        table = self._table.get(part)
        if not isinstance(table, dict):
            self._problem(f"has no table [{part}]")
            return Measure(Source.REQUESTS, Aggregate.COUNT)
        self._refuse_unknown_keys(table, _MEASURE_KEYS, f" in [{part}]")
        source = self._choice(Source, table, "source", Source.REQUESTS)
        aggregate = self._choice(Aggregate, table, "aggregate", Aggregate.COUNT)
        if aggregate not in _AGGREGATES[source]:
            self._problem(f"[{part}]: {source} have no {aggregate}")
        if source is Source.INTERACTIONS:
            return Measure(source, aggregate, self._text(table, "interaction"))
        if "interaction" in table:
            self._problem(f"[{part}]: only interactions have a kind of interaction")
        return Measure(source, aggregate)

    def _window(self) -> int | None:
        hours = self._table.get("window_hours")
        if hours is None or (type(hours) is int and 1 <= hours <= WINDOW_HOURS_MAX):
            return hours
        self._problem(f"window_hours = {hours!r} is not a whole number of hours from 1 to {WINDOW_HOURS_MAX}")
        return None

    def _text(self, table: Mapping[str, Any], key: str) -> str:
        value = table.get(key)
        if isinstance(value, str) and value.strip():
            return value
        self._problem(f"{key} is missing or not a text")
        return ""

    def _choice(self, choices: type[E], table: Mapping[str, Any], key: str, otherwise: E) -> E:
        try:
            return choices(str(table.get(key)))
        except ValueError:
            self._problem(f"{key} = {table.get(key)!r} is not one of {', '.join(choices)}")
            return otherwise

    def _refuse_unknown_keys(self, table: Mapping[str, Any], known: set[str], where: str) -> None:
        for key in sorted(table.keys() - known):
            self._problem(f"{key!r}{where} means nothing here")

    def _problem(self, what: str) -> None:
        self._problems.append(f"{self._path}: {what}")
