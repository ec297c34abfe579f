"""Every metric of the producers. Read from an emitter's books when somebody scrapes: emitting costs nothing for them."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from producers.emitter import EmitterStatus
from producers.spool.spool import SpoolStatus

_PREFIX = "tailrace_producers"


class EmitterMetrics:
    """Registers itself in `registry`; one emitter a registry."""

    def __init__(self, registry: CollectorRegistry, read: Callable[[], EmitterStatus]) -> None:
        self._read = read
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry that asks would read an emitter that may not be there yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        status = self._read()
        yield from _topics(status)
        yield from _courier(status)
        if status.spool is not None:
            yield from _spool(status, status.spool)


def _topics(status: EmitterStatus) -> Iterator[Metric]:
    """For each topic: emitted = acknowledged + queued + spooled + dropped."""
    emitted = CounterMetricFamily(f"{_PREFIX}_emitted_events", "Events that came in.", labels=["topic"])
    acknowledged = CounterMetricFamily(f"{_PREFIX}_acknowledged_events", "Events that the broker has.", labels=["topic"])
    queued = GaugeMetricFamily(f"{_PREFIX}_queued_events", "Events in memory, the client's too.", labels=["topic"])
    spooled = GaugeMetricFamily(f"{_PREFIX}_spooled_events", "Events on disk, not acknowledged.", labels=["topic"])
    dropped = CounterMetricFamily(f"{_PREFIX}_dropped_events", "Events lost, by reason.", labels=["topic", "reason"])
    for topic in status.topics:
        emitted.add_metric([topic.topic], topic.emitted)
        acknowledged.add_metric([topic.topic], topic.acknowledged)
        queued.add_metric([topic.topic], topic.queued)
        spooled.add_metric([topic.topic], topic.spooled)
        for reason, events in topic.dropped.items():
            dropped.add_metric([topic.topic, reason], events)
    for reason, events in status.strays.items():
        dropped.add_metric(["", reason], events)
    return iter((emitted, acknowledged, queued, spooled, dropped))


def _courier(status: EmitterStatus) -> Iterator[Metric]:
    counters, dispatched = status.counters, status.dispatched
    yield from _counters(
        ("checkpoints", "Checkpoints that were made.", counters.checkpoints),
        ("checkpoints_lost", "Checkpoints that were not sent or not delivered.", dispatched.checkpoints_lost),
        ("transport_full", "Times the transport had no room for a record.", dispatched.transport_full),
        ("transport_renewals", "Times the client broke down, and another was made.", dispatched.transport_renewals),
        ("schema_lookup_failures", "Failed look-ups of schema ids.", status.lookup_failures),
        ("faults", "Steps of the emitter's thread that failed.", counters.faults),
    )
    yield GaugeMetricFamily(f"{_PREFIX}_queue_events", "Events that wait in the queue.", status.queue_events)
    yield GaugeMetricFamily(f"{_PREFIX}_queue_events_max", "Room of the queue.", status.queue_events_max)


def _spool(status: EmitterStatus, spool: SpoolStatus) -> Iterator[Metric]:
    log, prefix = spool.log, f"{_PREFIX}_spool"
    yield GaugeMetricFamily(f"{_PREFIX}_diverted", "1 while events go to disk first.", status.dispatched.diverted)
    yield GaugeMetricFamily(f"{prefix}_available", "1 while the disk takes what is written.", spool.available)
    yield GaugeMetricFamily(f"{prefix}_bytes", "On disk, adopted ones too.", spool.bytes_used)
    yield GaugeMetricFamily(f"{prefix}_oldest_age_seconds", "Since the oldest segment was begun.", spool.oldest_age_s)
    yield from _counters(
        ("diversions", "Times events began to go to disk first.", status.dispatched.diversions),
        ("spool_written_events", "Records written to disk.", log.written),
        ("spool_drained_events", "Records from disk that the broker has acknowledged.", status.dispatched.drained),
        ("spool_adopted_events", "Records that other emitters had left, read.", log.adopted),
        ("spool_left_directories", "Directories left to a newer release.", log.left),
        ("spool_torn", "Damaged ends of files: what a crash leaves.", log.torn),
        ("spool_corrupt", "Damaged pieces within files.", log.corrupt),
        ("spool_passed_over", "Times a file or a directory could not be used, and was left for later.", spool.passed_over),
        ("spool_downgrades", "Times the disk could not be used.", spool.downgrades),
        ("spool_faults", "Steps on the disk that failed, and were done again.", spool.counters.faults),
    )
    lost = CounterMetricFamily(f"{prefix}_adopted_lost_events", "Adopted records lost, by reason.", labels=["reason"])
    for reason, events in {**log.adopted_lost, "refused": status.dispatched.adopted_lost}.items():
        lost.add_metric([reason], events)
    yield lost


def _counters(*named: tuple[str, str, int]) -> Iterator[Metric]:
    for name, help_text, value in named:
        yield CounterMetricFamily(f"{_PREFIX}_{name}", help_text, value)
