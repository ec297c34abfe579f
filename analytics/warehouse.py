"""The warehouse as analysis sees it: questions in, moments and counts out. The one file that imports its client.

Ends are fixed first (`Warehouse.as_of`), and a `Snapshot` reads below them only, so that its answers agree with each other and
can be asked again.

Nothing here writes, and only aggregates cross the wire. Raises PartUnreachable where the warehouse does not answer in time, or
lacks our tables.
"""

import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from analytics import queries
from analytics.as_of import AsOf, TopicEnds, table_filters
from analytics.config import AnalyticsConfig
from analytics.metrics_catalog import Metric
from analytics.moments import Moments
from analytics.queries import Query, Value
from analytics.results import ArmCounts, Cell, Completeness, Definition, LeftOut, TrafficCount
from analytics.statistics.comparison import DENOMINATOR, NUMERATOR
from schemas.errors import PartUnreachable
from schemas.events import Micros

CONNECT_TIMEOUT_S = 5
KNOWN_EXPERIMENTS_MAX = 50
_END_OF_TIME_MS = 4_102_444_800_000

_NO_TABLES = re.compile(r"UNKNOWN_TABLE|UNKNOWN_DATABASE")

_Row = Sequence[Any]


class Warehouse:
    """A connection for one thread; close it, or use it in a `with`."""

    def __init__(self, config: AnalyticsConfig) -> None:
        parts = urlsplit(config.warehouse_url)
        self.where = f"{parts.hostname}:{parts.port or 8123}{parts.path}"
        self._database = parts.path.strip("/") or "default"
        self._client = self._connect(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def as_of(self, before: Micros | None = None) -> AsOf:
        """What is in by now; with `before`, what of it Kafka took before then, and which repairs were made before then."""
        before_ms = _END_OF_TIME_MS if before is None else before // 1000
        rows = self.rows(queries.ENDS, {"before_ms": before_ms})
        repairs_ms = [int(repaired_ms) for *_, repaired_ms in rows if repaired_ms is not None]
        return AsOf(_topics(rows), Micros(max(repairs_ms) * 1000) if repairs_ms else None)

    def snapshot(self, as_of: AsOf) -> "Snapshot":
        """What is below the ends. A snapshot reads through this connection, and opens nothing."""
        return Snapshot(self, table_filters(as_of, self._database))

    def rows(self, text: str, parameters: Mapping[str, Value]) -> Sequence[_Row]:
        """The answer to a question."""
        try:
            return self._client.query(text, parameters=dict(parameters)).result_rows
        except ClickHouseError as error:
            raise self._failure(error) from error

    def _connect(self, config: AnalyticsConfig) -> Client:
        try:
            return clickhouse_connect.get_client(
                dsn=config.warehouse_url,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=config.query_timeout_s,
                autogenerate_session_id=False,
                settings=dict(config.warehouse_options),
            )
        except ClickHouseError as error:
            raise self._failure(error) from error

    def _failure(self, error: ClickHouseError) -> PartUnreachable:
        said = str(error).strip().splitlines()[0]
        what = "the warehouse does not answer" if isinstance(error, OperationalError) else "the warehouse refused a question"
        return PartUnreachable(what, self.where, f"{_remedy(said)} ({said})")


class Snapshot:
    """Questions to the part of the warehouse that lies below some ends. The setting goes in the text: a URL may be too short."""

    def __init__(self, warehouse: Warehouse, filters: str) -> None:
        self._warehouse = warehouse
        self._settings = f"\nSETTINGS additional_table_filters = {filters}"

    def definitions(self, experiment: str) -> tuple[Definition, ...]:
        """Every revision, the oldest first; empty where the warehouse has none."""
        return tuple(_definition(row) for row in self._rows(queries.DEFINITIONS, {"experiment": experiment}))

    def known_experiments(self) -> tuple[str, ...]:
        """Names in alphabetical order, KNOWN_EXPERIMENTS_MAX at most."""
        return tuple(str(name) for (name,) in self._rows(queries.KNOWN_EXPERIMENTS, {"limit": KNOWN_EXPERIMENTS_MAX}))

    def cells(self, experiment: str, traffic: str, metrics: Sequence[Metric]) -> tuple[Cell, ...]:
        """Counts and moments of each arm under each revision, all from one query, so that they agree."""
        query = queries.moments_query(experiment, traffic, metrics)
        return tuple(_cell(row, metrics) for row in self._ask(query))

    def left_out(self, experiment: str, traffic: str, interactions_before_exposure: int) -> LeftOut:
        asked = {"experiment": experiment, "traffic": traffic}
        ((never_exposed, not_exposed),) = self._rows(queries.UNEXPOSED, asked)
        ((recommendations, recommended, interactions, interacted),) = self._rows(queries.COPIES_AND_CLOCKS, asked)
        return LeftOut(
            other_traffic=tuple(TrafficCount(*row) for row in self._rows(queries.OTHER_TRAFFIC, asked)),
            interactions_before_exposure=interactions_before_exposure,
            duplicate_recommendations=int(recommendations) - int(recommended[0]),
            duplicate_interactions=int(interactions) - int(interacted[0]),
            units_never_exposed=int(never_exposed),
            requests_not_exposed=int(not_exposed),
            events_with_wrong_clocks=int(recommended[1]) + int(interacted[1]),
        )

    def completeness(self, experiment: str) -> Completeness:
        ((emitters, arrived, dead_letters),) = self._rows(queries.COMPLETENESS, {"experiment": experiment})
        return Completeness(
            exposures_emitted=int(emitters[0]) if emitters[1] else None,
            exposures_arrived=int(arrived[0]),
            emitters=int(emitters[1]),
            emitters_open=int(emitters[2]),
            newest_arrival_at=Micros(int(arrived[1] * 1000)) if arrived[0] else None,
            dead_letters=int(dead_letters),
        )

    def _ask(self, query: Query) -> Sequence[_Row]:
        return self._rows(query.text, query.parameters)

    def _rows(self, text: str, parameters: Mapping[str, Value]) -> Sequence[_Row]:
        return self._warehouse.rows(text + self._settings, parameters)


def _topics(rows: Sequence[_Row]) -> tuple[TopicEnds, ...]:
    ends: dict[tuple[str, str], dict[int, int]] = {}
    for topic, topic_id, partition, end, _ in rows:
        ends.setdefault((str(topic), str(topic_id)), {})[int(partition)] = int(end)
    return tuple(TopicEnds(topic, topic_id, found) for (topic, topic_id), found in ends.items())


def _remedy(said: str) -> str:
    if _NO_TABLES.search(said):
        return "its tables are missing: make them with `tailrace up`"
    return "start the local stack with `tailrace up`, or name another warehouse in TAILRACE_WAREHOUSE_READ_URL"


def _definition(row: _Row) -> Definition:
    revision, kind, owner, hypothesis, status, unit_type, surfaces, arms, weights = row
    named = dict(zip(arms, weights, strict=True))
    return Definition(revision, kind, owner, hypothesis, status, unit_type, tuple(surfaces), named)


def _cell(row: _Row, metrics: Sequence[Metric]) -> Cell:
    revision, arm, units, crossovers, exposed, degraded, early, *rest = row
    counts = ArmCounts(int(units), int(crossovers), int(exposed), int(degraded), int(early))
    figures = iter(rest)
    moments = {metric.name: _moments(counts.units, figures, is_ratio=metric.denominator is not None) for metric in metrics}
    return Cell(int(revision), str(arm), counts, moments)


def _moments(count: int, figures: Any, *, is_ratio: bool) -> Moments:
    """Takes from `figures` what `moments_query` has put there for one metric."""
    names = (NUMERATOR, DENOMINATOR) if is_ratio else (NUMERATOR,)
    means, deviations = {}, {}
    for name in names:
        means[name] = float(next(figures))
        deviations[name, name] = float(next(figures)) * count
    if is_ratio:
        deviations[DENOMINATOR, NUMERATOR] = float(next(figures)) * count
    return Moments(count, means, deviations)
