"""Every metric of the auditor, in one place. Labels: topic, verdict, state; never a partition, a producer or an event."""

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge

from stream_processors.audit.partitions import PartitionReport
from stream_processors.audit.report import Report


class AuditMetrics:
    """The figures of the last audit, on a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"tailrace_audit_{name}", text, labels, registry=registry)

        self._audits = Counter("tailrace_audit_audits_total", "Audits by outcome.", ("outcome",), registry=registry)
        self._sound = gauge("sound", "1 where the last audit found nothing wrong, else 0.")
        # The warehouse's clock: an alarm on its age finds an auditor that is stuck.
        self._asked = gauge("last_timestamp_seconds", "When the last audit that came to its end began.")
        # Offsets and rows by verdict: the words of partitions.py.
        self._offsets = gauge("offsets", "Offsets by verdict.", "topic", "verdict")
        # Producers, and the numbers of their events: the words of emitters.py.
        self._streams = gauge("producers", "Producers by state.", "topic", "state")
        self._events = gauge("events", "Numbered events that are not in, by verdict.", "topic", "verdict")
        self._complete = gauge("complete_up_to_timestamp_seconds", "The least of the live producers; NaN where unknown.", "topic")

    def failed(self) -> None:
        """A part did not answer: the figures stay those of the last audit."""
        self._audits.labels("unreachable").inc()

    def audited(self, report: Report) -> None:
        self._audits.labels("sound" if report.sound else "not_sound").inc()
        self._sound.set(report.sound)
        self._asked.set(report.asked_ms / 1_000)
        offsets: Tally[tuple[str, str]] = Tally()
        for partition in report.partitions:
            for verdict, count in _counts(partition).items():
                offsets[partition.topic, verdict] += count
        for (topic, verdict), count in offsets.items():
            self._offsets.labels(topic, verdict).set(count)
        self._producers(report)

    def _producers(self, report: Report) -> None:
        for topic in report.topics:
            for state, streams in topic.streams.items():
                self._streams.labels(topic.topic, state).set(streams)
            events = {
                "missing": topic.missing,
                "unknown": topic.unknown,
                "unexplained": topic.unexplained,
                "awaited": topic.awaited,
                "dropped": sum(topic.dropped.values()),
            }
            for verdict, count in events.items():
                self._events.labels(topic.topic, verdict).set(count)
            complete_us = topic.complete_up_to_us
            self._complete.labels(topic.topic).set(float("nan") if complete_us is None else complete_us / 1_000_000)


def _counts(partition: PartitionReport) -> dict[str, int]:
    return {
        "rows": partition.rows,
        "dead_letters": partition.dead_letters,
        "repaired": partition.repaired,
        "copies": partition.copies,
        "conflicts": partition.conflicts,
        "beyond_end": partition.beyond_end,
        "pending": partition.pending.count,
        "missing": partition.missing.count,
        "holes": partition.holes.count,
        "recorded": partition.recorded.count,
        "unclaimed": partition.unclaimed.count,
        "unaccounted": partition.unaccounted.count,
    }
