"""Every metric of the producers. Read from an emitter's books when somebody scrapes: emitting costs nothing for them."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from producers.emitter import EmitterStatus

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
        counters = status.counters
        for name, help_text, value in (
            ("checkpoints", "Checkpoints handed to the transport.", counters.checkpoints),
            ("checkpoints_lost", "Checkpoints that were not sent or not delivered.", counters.checkpoints_lost),
            ("transport_full", "Times the transport had no room for a record.", counters.transport_full),
            ("schema_lookup_failures", "Failed look-ups of schema ids.", counters.lookup_failures),
            ("faults", "Steps of the emitter's thread that failed.", counters.faults),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", help_text, value)
        yield GaugeMetricFamily(f"{_PREFIX}_queue_events", "Events that wait in the queue.", status.queue_events)
        yield GaugeMetricFamily(f"{_PREFIX}_queue_events_max", "Room of the queue.", status.queue_events_max)


def _topics(status: EmitterStatus) -> Iterator[Metric]:
    accepted = CounterMetricFamily(f"{_PREFIX}_accepted_events", "Events that were numbered and queued.", labels=["topic"])
    delivered = CounterMetricFamily(f"{_PREFIX}_delivered_events", "Events that the broker acknowledged.", labels=["topic"])
    dropped = CounterMetricFamily(f"{_PREFIX}_dropped_events", "Events lost, by reason.", labels=["topic", "reason"])
    for topic in status.topics:
        accepted.add_metric([topic.topic], topic.accepted)
        delivered.add_metric([topic.topic], topic.delivered)
        for reason, events in topic.dropped.items():
            dropped.add_metric([topic.topic, reason], events)
    for reason, events in status.strays.items():
        dropped.add_metric(["", reason], events)
    return iter((accepted, delivered, dropped))
