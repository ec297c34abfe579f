"""One audit: Kafka and the warehouse are asked in an order in which each answer may only be too kind to nobody.

1. The warehouse's time, and which topics go by the names.
2. What the group has committed, and where the logs begin. What is committed was in the warehouse before.
3. The warehouse's coordinates: of what was committed in 2 none may be absent, whatever comes in meanwhile.
4. Where the logs end. What the warehouse had in 3 cannot lie past it.
5. The logs, where something is absent; then once more which topics go by the names.
6. The producers, by checkpoints that were in the warehouse at 1: what their producers had sent before was in Kafka before 4.

Where a log began later or a topic was made anew in between, all is asked again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from schemas.errors import PartUnreachable
from schemas.tables import TABLE_OF_RECORD, Column, load_tables
from schemas.topics import PRODUCER_CHECKPOINTS, TOPICS, Topic, topic_name
from stream_processors.audit import emitters, partitions
from stream_processors.audit.config import AuditConfig
from stream_processors.audit.emitters import Excuses, StreamReport, TopicReport
from stream_processors.audit.errors import Shifted
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.audit.partitions import Evidence, Gap, Log, PartitionReport
from stream_processors.audit.report import Report, listed
from stream_processors.audit.warehouse_view import Times, WarehouseView
from stream_processors.warehouse.records import Place, Route

TRIES_MAX = 3
"""Logs that begin later at every look are left alone after so many."""
STREAMS_DETAILED_MAX = 20
"""Of each topic's producers that something is missing from, so many are asked for which numbers."""
BROKER_SKEW_MS = 1_000
"""Brokers' clocks are taken to agree this well: a checkpoint and the events before it may be stamped by two of them."""

AUDITED = tuple(topic for topic in TOPICS if topic.record in TABLE_OF_RECORD)
"""The topics that the sink carries."""


@dataclass(frozen=True, slots=True)
class _Route:
    """A topic, its name in Kafka, its table."""

    topic: Topic
    name: str
    table: str
    numbered: bool
    """Its events carry their producer's numbers."""


class Auditor:
    """Asks through one connection to each part."""

    def __init__(self, log: KafkaLog, view: WarehouseView, config: AuditConfig) -> None:
        self._log, self._view = log, view
        self._patience_ms = config.patience_s * 1_000
        self._chosen = frozenset(config.topics) or frozenset(topic.name for topic in AUDITED)
        # Producers cannot be judged without their checkpoints, whatever is chosen.
        wanted = [topic for topic in AUDITED if topic.name in self._chosen or topic is PRODUCER_CHECKPOINTS]
        tables = load_tables()
        self._routes = [_route(topic, config.topic_prefix, tables) for topic in wanted]

    def audit(self) -> Report:
        """Raises PartUnreachable where a part does not answer, or the logs do not keep still."""
        tries = 0
        while True:
            try:
                return self._look()
            except Shifted as shifted:
                tries += 1
                if tries == TRIES_MAX:
                    raise PartUnreachable("Kafka", str(shifted), f"so it was {TRIES_MAX} times; audit again") from shifted

    def _look(self) -> Report:
        asked_ms = self._view.now_ms()
        gaps = {route.name: self._view.gaps(route.name) for route in self._routes}
        judged = self._partitions(gaps)
        topics, streams = self._producers(judged, gaps, asked_ms)
        chosen = {route.name for route in self._routes if route.topic.name in self._chosen}
        return Report(
            asked_ms=asked_ms,
            partitions=tuple(report for report in judged if report.topic in chosen),
            topics=tuple(topics),
            streams=listed(streams),
            gaps=tuple(gap for name in sorted(chosen) for gap in gaps[name]),
        )

    def _partitions(self, gaps: Mapping[str, list[Gap]]) -> list[PartitionReport]:
        topics = self._log.topics(gaps)
        places = {Place(name, partition): topic.topic_id for name, topic in topics.items() for partition in topic.partitions}
        logs = self._half_known(places)
        blocks = {route.name: self._view.blocks(route.table, route.name) for route in self._routes}
        for place, end in self._log.ends(places).items():
            logs[place] = replace(logs[place], end=end)
        reports = []
        for route in self._routes:
            current = {
                (topic_id, place.partition): logs[place] for place, topic_id in places.items() if place.topic == route.name
            }
            known = _by_partition(gaps[route.name])
            for key in sorted({*current, *blocks[route.name], *known}, key=lambda key: (key not in current, key)):
                found = blocks[route.name].get(key, [])
                evidence = Evidence(route.name, *key, current.get(key), found, known.get(key, []))
                reports.append(self._partition(route, evidence))
        if self._log.topics(gaps) != topics:
            raise Shifted("a topic was made anew")
        return reports

    def _half_known(self, places: Mapping[Place, UUID]) -> dict[Place, Log]:
        """Without their ends, which are to be asked last."""
        committed = self._log.committed(places)
        starts = self._log.starts(places)
        ours = {place: offset for place, (offset, topic_id) in committed.items() if topic_id == places[place]}
        return {place: Log(starts[place], 0, ours.get(place)) for place in places}

    def _partition(self, route: _Route, evidence: Evidence) -> PartitionReport:
        look_into = partial(self._view.absent_offsets, route.table, evidence.topic_id, evidence.partition)
        reader = self._log.read(Place(evidence.topic, evidence.partition))
        return partitions.judge(evidence, look_into, reader.next_record)

    def _producers(
        self, judged: list[PartitionReport], gaps: Mapping[str, list[Gap]], asked_ms: int
    ) -> tuple[list[TopicReport], list[StreamReport]]:
        topics: list[TopicReport] = []
        streams: list[StreamReport] = []
        checkpoints = next(route.name for route in self._routes if route.topic is PRODUCER_CHECKPOINTS)
        for route in self._routes:
            if not route.numbered:
                continue
            settled_ms = _settled_ms(judged, {route.name, checkpoints}, asked_ms)
            reports = self._streams(route, Times(asked_ms, settled_ms, settled_ms - self._patience_ms))
            excuses = _excuses((report for report in judged if report.topic == route.name), gaps[route.name])
            topics.append(emitters.judge_topic(route.topic.name, reports, excuses, settled_ms))
            streams += reports
        return topics, streams

    def _streams(self, route: _Route, times: Times) -> list[StreamReport]:
        streams = self._view.streams(route.table, route.topic.name, times)
        followed = [stream.producer_id for stream in streams if stream.told and not stream.whole]
        steps = self._view.steps(route.table, route.topic.name, followed, times)
        detailed, reports = 0, []
        for bare in streams:
            stream = replace(bare, steps=steps.get(bare.producer_id))
            report = emitters.judge(stream, times.settled_ms, self._patience_ms)
            if report.missing and detailed < STREAMS_DETAILED_MAX:
                detailed += 1
                report = replace(report, absent=self._view.absent_numbers(route.table, stream, report.next_seq))
            reports.append(report)
        return reports


def _route(topic: Topic, prefix: str, tables: Mapping[str, Mapping[str, Column]]) -> _Route:
    table = Route.of(topic).table
    return _Route(topic, topic_name(prefix, topic), table, "producer_seq" in tables[table])


def _by_partition(gaps: Iterable[Gap]) -> dict[tuple[UUID, int], list[Gap]]:
    found: dict[tuple[UUID, int], list[Gap]] = {}
    for gap in gaps:
        found.setdefault((gap.topic_id, gap.partition), []).append(gap)
    return found


def _settled_ms(judged: Iterable[PartitionReport], topics: set[str], asked_ms: int) -> int:
    """All that Kafka stamped earlier in `topics` is in the warehouse."""
    pending = (report.oldest_pending_ms for report in judged if report.topic in topics)
    return min([asked_ms, *(oldest_ms - BROKER_SKEW_MS for oldest_ms in pending if oldest_ms is not None)])


def _excuses(judged: Iterable[PartitionReport], gaps: Iterable[Gap]) -> Excuses:
    """What a topic's missing numbers may be, without being anybody's loss that was not told."""
    unreadable = sum(report.dead_letters - report.repaired + report.recorded.count + report.unclaimed.count for report in judged)
    return Excuses(unreadable, max((gap.recorded_ms for gap in gaps if gap.end is None), default=0))
