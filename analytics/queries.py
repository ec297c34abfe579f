"""What is asked of the warehouse, as SQL text and its parameters. Pure; `warehouse.py` sends it.

Values of metric definitions go as bound parameters, never into the text. Per-unit values are computed and aggregated where the
rows are: what comes back is one row for each revision and arm.

A question that reads a view also names the units that the experiment ever assigned: of conditions, only one on the unit gets to
the rows before the copies of an event are sorted out. Time is `_happened_at`, the emitter's clock where that can be right.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analytics.as_of import LIVE_RUN, RAW_TABLES, REPAIRED_RUN
from analytics.metrics_catalog import Aggregate, Measure, Metric, MetricKind, Source
from schemas.events import FLAG_POLICY_PREFIX

Value = str | int


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    parameters: Mapping[str, Value]


LIVE_INSERT_S_MAX = 60
"""A batch of the sink is several inserts, one for each schema and day in it; after so long all of them have ended."""

_COORDINATES = "_topic_id, _partition, _offset, _kafka_time, _run, _ingested_at"
_ALL_ROWS = "\n    UNION ALL ".join(
    f"SELECT {_COORDINATES}, '{table}' AS raw_table FROM {table}"  # noqa: S608 - names of our own
    for table in RAW_TABLES
)

ENDS = f"""
-- For each partition that has rows: its topic, the first offset that is not counted, and when its newest repair was made.
-- What the sink is bringing in has holes for a moment (the rows of one schema are in before those of another), so among rows that
-- came lately the end stands before the first hole. The definitions' topic has holes of its own: transactions and compaction.
WITH
    toDateTime64({{before_ms:Int64}} / 1000, 3, 'UTC') AS before,
    _run != '{LIVE_RUN}' OR raw_table = 'experiment_revisions' OR _ingested_at < now64(3) - {LIVE_INSERT_S_MAX} AS settled,
    maxOrNullIf(_offset, settled) AS newest_settled,
    arraySort(groupUniqArrayIf(_offset, NOT settled)) AS fresh,
    ifNull(newest_settled, fresh[1] - 1) AS base,
    arrayFilter(offset -> offset > base, fresh) AS above,
    arrayFirstIndex((offset, at) -> offset != base + at, above, arrayEnumerate(above)) AS hole
SELECT
    any(topic),
    toString(_topic_id),
    _partition,
    base + if(hole = 0, length(above) + 1, hole),
    maxOrNullIf(toUnixTimestamp64Milli(_ingested_at), _run = '{REPAIRED_RUN}' AND _ingested_at < before)
FROM
(
    {_ALL_ROWS}
) AS rows
LEFT JOIN (SELECT _topic_id, any(topic) AS topic FROM ingest_topics GROUP BY _topic_id) AS names USING _topic_id
WHERE _kafka_time < before
GROUP BY _topic_id, _partition
ORDER BY any(topic), _topic_id, _partition
"""  # noqa: S608 - made of our own words

_OF_ASSIGNED_UNITS = "unit_id IN (SELECT unit_id FROM recommendations WHERE has(assignments.experiment_id, {experiment:String}))"

DEFINITIONS = """
SELECT revision, kind, owner, hypothesis, status, unit_type, surfaces, arms.name AS arms, arms.weight AS weights
FROM experiments
WHERE experiment_id = {experiment:String}
ORDER BY revision
"""

KNOWN_EXPERIMENTS = "SELECT DISTINCT experiment_id FROM experiments ORDER BY experiment_id LIMIT {limit:UInt32}"

OTHER_TRAFFIC = f"""
SELECT traffic, count(), sum(exposed_requests)
FROM exposures
WHERE experiment_id = {{experiment:String}} AND traffic != {{traffic:String}} AND {_OF_ASSIGNED_UNITS}
GROUP BY traffic
ORDER BY traffic
"""  # noqa: S608 - made of our own words

UNEXPOSED = f"""
SELECT countIf(exposed_requests = 0), sum(requests - exposed_requests)
FROM
(
    SELECT unit_id, count() AS requests, countIf(assignment.exposed) AS exposed_requests
    FROM recommendations_once
    ARRAY JOIN assignments AS assignment
    WHERE traffic = {{traffic:String}} AND assignment.experiment_id = {{experiment:String}} AND assignment.arm IS NOT NULL
        AND {_OF_ASSIGNED_UNITS}
    GROUP BY assignment.unit_type, unit_id
)
"""  # noqa: S608 - made of our own words

_ITS_RECOMMENDATIONS = f"""
traffic = {{traffic:String}} AND has(assignments.experiment_id, {{experiment:String}}) AND {_OF_ASSIGNED_UNITS}
"""

_ITS_INTERACTIONS = f"""
traffic = {{traffic:String}} AND {_OF_ASSIGNED_UNITS} AND (unit_type, unit_id) IN
(
    SELECT unit_type, unit_id
    FROM exposures
    WHERE experiment_id = {{experiment:String}} AND traffic = {{traffic:String}} AND {_OF_ASSIGNED_UNITS}
)
"""  # noqa: S608 - made of our own words

COPIES_AND_CLOCKS = f"""
-- Rows, events and events with a wrong clock: of the recommendations, then of the interactions.
SELECT
    (SELECT count() FROM recommendations FINAL WHERE {_ITS_RECOMMENDATIONS}),
    (SELECT (count(), countIf(_clock = 'wrong')) FROM recommendations_once WHERE {_ITS_RECOMMENDATIONS}) AS recommended,
    (SELECT count() FROM interactions FINAL WHERE {_ITS_INTERACTIONS}),
    (SELECT (count(), countIf(_clock = 'wrong')) FROM interactions_once WHERE {_ITS_INTERACTIONS}) AS interacted
"""  # noqa: S608 - made of our own words

COMPLETENESS = """
-- Emitters count an event as often as they send it, so copies of an event count among what arrived as well.
SELECT
    (
        SELECT (sum(emitted), count(), countIf(NOT closed))
        FROM
        (
            SELECT
                argMax(closed, (next_seq, _offset)) AS closed,
                argMax(counts, (next_seq, _offset)) AS newest,
                arraySum(c -> if(c.experiment_id = {experiment:String}, c.count, 0), newest) AS emitted
            FROM producer_checkpoints FINAL
            WHERE topic = 'recommendations'
            GROUP BY producer_id
            HAVING emitted > 0
        )
    ),
    (
        SELECT (count(), toUnixTimestamp64Milli(max(_kafka_time)))
        FROM recommendations FINAL
        WHERE arrayExists(a -> ifNull(a.experiment_id = {experiment:String}, false) AND a.exposed, assignments)
    ),
    (SELECT count() FROM dead_letters FINAL)
"""

_UNITS = f"""
SELECT unit_type, unit_id, arm, revision, first_at, crossover, exposed_requests, degraded_requests
FROM exposures
WHERE experiment_id = {{experiment:String}} AND traffic = {{traffic:String}} AND {_OF_ASSIGNED_UNITS}
"""  # noqa: S608 - made of our own words

_EVENTS = f"""
SELECT 'interaction' AS source, unit_type, unit_id, _happened_at, surface, kind, value, 0 AS slots, false AS degraded
FROM interactions_once
WHERE traffic = {{traffic:String}} AND {_OF_ASSIGNED_UNITS}
UNION ALL
-- The evaluation of a flag tells an exposure, and answers no request.
SELECT 'request', unit_type, unit_id, _happened_at, surface, '', NULL, length(slots), degraded IS NOT NULL
FROM recommendations_once
WHERE traffic = {{traffic:String}} AND NOT startsWith(policy_id, '{FLAG_POLICY_PREFIX}') AND {_OF_ASSIGNED_UNITS}
"""  # noqa: S608 - made of our own words


def moments_query(experiment: str, traffic: str, metrics: Sequence[Metric]) -> Query:
    """For each revision and arm: revision, arm, units, crossovers, exposed requests, degraded requests, interactions before the
    first exposure; then for each metric the mean and the population variance of its numerator and, where it is a ratio, those of
    its denominator and the population covariance of the two.

    The exposed units are the small, hashed side of one join, and the events stream past them once. The variances are the engine's
    `…Stable` ones: its plain ones subtract squares of sums.

    Floating-point sums depend on their order, and threads and parts make it another one each time. So values are sorted before
    they are added: the same rows give the same bits.
    """
    values = [f"{expression} AS {name}" for at, metric in enumerate(metrics) for name, expression in _unit_values(at, metric)]
    aggregates = [aggregate for at, metric in enumerate(metrics) for aggregate in _aggregates(at, metric)]
    text = f"""
SELECT revision, arm, count(), countIf(crossover), sum(exposed_requests), sum(degraded_requests), sum(early)
{_columns(aggregates)}
FROM
(
    SELECT
        any(units.revision) AS revision,
        any(units.arm) AS arm,
        any(units.crossover) AS crossover,
        any(units.exposed_requests) AS exposed_requests,
        any(units.degraded_requests) AS degraded_requests,
        countIf(events.source = 'interaction' AND events._happened_at < units.first_at) AS early
        {_columns(values)}
    FROM ({_EVENTS}) AS events
    RIGHT JOIN ({_UNITS}) AS units ON events.unit_type = units.unit_type AND events.unit_id = units.unit_id
    GROUP BY units.unit_type, units.unit_id
)
GROUP BY revision, arm
ORDER BY revision, arm
"""  # noqa: S608 - made of our own words and numbers; what metric files say is bound
    return Query(text, {"experiment": experiment, "traffic": traffic, **dict(_parameters(metrics))})


def _columns(expressions: Sequence[str]) -> str:
    return "".join(f",\n    {expression}" for expression in expressions)


def _measures(at: int, metric: Metric) -> Iterator[tuple[str, Measure]]:
    """The columns of the metric at place `at`, with what each holds."""
    yield f"n{at}", metric.numerator
    if metric.denominator is not None:
        yield f"d{at}", metric.denominator


def _unit_values(at: int, metric: Metric) -> Iterator[tuple[str, str]]:
    for name, measure in _measures(at, metric):
        value = _value(name, at, metric, measure)
        yield name, f"toFloat64({value} > 0)" if metric.kind is MetricKind.SHARE else f"toFloat64({value})"


def _value(name: str, at: int, metric: Metric, measure: Measure) -> str:
    conditions = ["events._happened_at >= units.first_at"]
    if metric.window_hours is not None:
        conditions.append(f"events._happened_at < units.first_at + toIntervalHour({{window{at}:UInt32}})")
    if metric.surface is not None:
        conditions.append(f"events.surface = {{surface{at}:String}}")
    if measure.source is Source.INTERACTIONS:
        conditions += ["events.source = 'interaction'", f"events.kind = {{kind_{name}:String}}"]
    else:
        conditions.append("events.source = 'request'")
    if measure.source is Source.DEGRADED_REQUESTS:
        conditions.append("events.degraded")
    condition = " AND ".join(conditions)
    if measure.aggregate is Aggregate.COUNT:
        return f"countIf({condition})"
    if measure.source is Source.SLOTS:
        return f"sumIf(events.slots, {condition})"
    return f"arraySum(arraySort(groupArrayIf(ifNull(events.value, 0), {condition})))"


def _aggregates(at: int, metric: Metric) -> Iterator[str]:
    for name, _ in _measures(at, metric):
        yield f"arrayReduce('avg', arraySort(groupArray({name})) AS sorted_{name})"
        yield f"arrayReduce('varPopStable', sorted_{name})"
    if metric.denominator is not None:
        yield f"arrayReduce('covarPopStable', (arraySort(groupArray((n{at}, d{at}))) AS pairs{at}).1, pairs{at}.2)"


def _parameters(metrics: Sequence[Metric]) -> Iterator[tuple[str, Value]]:
    for at, metric in enumerate(metrics):
        if metric.window_hours is not None:
            yield f"window{at}", metric.window_hours
        if metric.surface is not None:
            yield f"surface{at}", metric.surface
        for name, measure in _measures(at, metric):
            if measure.interaction is not None:
                yield f"kind_{name}", measure.interaction
