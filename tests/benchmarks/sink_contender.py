"""The sink itself as a contender: the product's own parts, with a meter at the two places where records come and go."""

import os
import urllib.request
from collections.abc import Iterable, Iterator

from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import free_port
from stream_processors.warehouse.config import SinkConfig
from stream_processors.warehouse.kafka_source import Fetched, KafkaSource
from stream_processors.warehouse.main import Sink
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.records import Place
from tests.benchmarks.meter import Meter

ANSWER_TIMEOUT_S = 10
_SPENT = "tailrace_sink_spent_seconds_total"


def run_sink(meter: Meter) -> None:
    """Until the meter's rows are in."""
    _attach(meter)
    port = free_port()
    sink = Sink(SinkConfig.from_environment({**os.environ, "TAILRACE_METRICS_PORT": str(port)}))
    try:
        sink.run(lambda: meter.done)
        meter.spent_s = _spent_s(port)
    finally:
        sink.close()


def _attach(meter: Meter) -> None:
    consume, inserted, buried = KafkaSource.consume, SinkMetrics.inserted, SinkMetrics.buried

    def metered_consume(source: KafkaSource, timeout_s: float) -> Iterable[Fetched]:
        return _noticed(meter, consume(source, timeout_s))

    def metered_inserted(metrics: SinkMetrics, place: Place, rows: int) -> None:
        inserted(metrics, place, rows)
        meter.note(rows)

    def metered_buried(metrics: SinkMetrics, place: Place, reasons: list[str]) -> None:
        buried(metrics, place, reasons)
        meter.note(len(reasons))

    setattr(KafkaSource, "consume", metered_consume)  # noqa: B010 - a type checker refuses the assignment
    setattr(SinkMetrics, "inserted", metered_inserted)  # noqa: B010 - as above
    setattr(SinkMetrics, "buried", metered_buried)  # noqa: B010 - as above


def _noticed(meter: Meter, found: Iterable[Fetched]) -> Iterator[Fetched]:
    for fetched in found:
        if fetched.records:
            meter.start()
        yield fetched


def _spent_s(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ANSWER_TIMEOUT_S) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == _SPENT]
    return {sample.labels["on"]: sample.value for sample in samples}
