"""An audit as text for a terminal: what is wrong first, each with its place; where all is quiet, a few lines."""

from collections.abc import Iterator
from datetime import UTC, datetime

from stream_processors.audit.emitters import State, StreamReport, TopicReport
from stream_processors.audit.partitions import PartitionReport
from stream_processors.audit.report import Report

LINES_MAX = 50
"""So many findings of a kind are printed; --json has more."""


def render(report: Report) -> str:
    found = [*wrong(report), *notes(report)]
    verdict = "sound: all that Kafka held is in the warehouse once, is waiting, or is explained" if report.sound else "NOT SOUND"
    return "\n".join([f"{_time(report.asked_ms * 1000)}  {verdict}", *found, *_totals(report)])


def wrong(report: Report) -> list[str]:
    """What makes the answer a no."""
    found = [line for partition in report.partitions for line in _wrong_partition(partition)]
    found += [line for topic in report.topics for line in _wrong_topic(topic, report)]
    return _bounded(found)


def notes(report: Report) -> list[str]:
    """What is to be known and is no no: losses that were told, producers that nobody can judge."""
    found = [line for partition in report.partitions for line in _noted_partition(partition)]
    found += [line for topic in report.topics for line in _noted_topic(topic)]
    return _bounded(found)


def _wrong_partition(partition: PartitionReport) -> Iterator[str]:
    if partition.missing.count:
        yield f"MISSING      {partition}: {partition.missing.count:,} records are in Kafka only: {partition.missing}"
    if partition.unaccounted.count:
        spans = f"{partition.unaccounted.count:,} offsets are nowhere, and nobody recorded why: {partition.unaccounted}"
        yield f"UNACCOUNTED  {partition}: {spans}"
    if partition.tail_unknown:
        yield f"UNACCOUNTED  {partition}: it is gone, and nobody recorded what was lost after its last known offset"
    if partition.copies:
        yield f"TWICE        {partition}: {partition.copies:,} rows beyond the first at their coordinates"
    if partition.conflicts:
        yield f"CONFLICT     {partition}: {partition.conflicts:,} coordinates are a row and a dead letter, and were not repaired"
    if partition.beyond_end:
        yield f"CUT OFF      {partition}: Kafka's log ends before {partition.beyond_end:,} records that are in the warehouse"


def _wrong_topic(topic: TopicReport, report: Report) -> Iterator[str]:
    if topic.sound:
        return
    yield f"MISSING      {topic.topic}: {topic.unexplained:,} numbered events never came, and nothing explains them"
    for stream in report.streams:
        if stream.topic == topic.topic and stream.state is State.MISSING:
            yield f"             {_missing(stream)}"


def _missing(stream: StreamReport) -> str:
    life = "closed" if stream.closed else "live"
    absent = ", ".join(map(str, stream.absent)) or "–"
    return f"producer {stream.producer_id} ({life}): {stream.missing:,} of {stream.next_seq:,}; absent: {absent}"


def _noted_partition(partition: PartitionReport) -> Iterator[str]:
    if partition.recorded.count:
        yield f"lost, told   {partition}: {partition.recorded.count:,} offsets, recorded in ingest_gaps: {partition.recorded}"
    if partition.unclaimed.count:
        yield f"before       {partition}: {partition.unclaimed.count:,} offsets expired before the first that the warehouse has"


def _noted_topic(topic: TopicReport) -> Iterator[str]:
    if topic.missing and topic.sound:
        yield f"explained    {topic.topic}: {topic.missing:,} missing events may be dead letters or in recorded gaps"
    if topic.dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(topic.dropped.items()))
        yield f"lost, told   {topic.topic}: dropped by producers: {reasons}"
    if topic.streams[State.UNKNOWN]:
        lost = f"{topic.unknown:,} numbers are missing before their ends, and nobody knows their tails"
        yield f"unknown      {topic.topic}: {topic.streams[State.UNKNOWN]:,} producers fell silent and never closed: {lost}"


def _totals(report: Report) -> Iterator[str]:
    here = report.partitions
    sums = {
        "rows": sum(partition.rows for partition in here),
        "dead letters": sum(partition.dead_letters for partition in here),
        "repaired": sum(partition.repaired for partition in here),
        "pending": sum(partition.pending.count for partition in here),
        "holes": sum(partition.holes.count for partition in here),
    }
    yield f"{len(here)} partitions: " + ", ".join(f"{count:,} {name}" for name, count in sums.items())
    for topic in report.topics:
        states = ", ".join(f"{count:,} {state}" for state, count in topic.streams.items() if count) or "none"
        yield f"{topic.topic}: producers: {states}; {_completeness(topic)}"


def _completeness(topic: TopicReport) -> str:
    if topic.complete_up_to_us is not None:
        return f"complete up to {_time(topic.complete_up_to_us)}, {topic.awaited:,} awaited"
    return "not known to be complete up to any time" if topic.awaited or topic.streams[State.LIVE] else "none is live"


def _bounded(lines: list[str]) -> list[str]:
    return lines if len(lines) <= LINES_MAX else [*lines[:LINES_MAX], f"… and {len(lines) - LINES_MAX:,} more; --json has them"]


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(" ", "milliseconds").replace("+00:00", "Z")
