"""Every metric of the sink, in one place. Labels: topic (with its prefix), partition, table, outcome, reason; never a unit.

What has happened is counted when it happens; how things stand is asked of the worker whenever the figures are read.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream_processors.warehouse.batch import Batch
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.ownership import Found
from stream_processors.warehouse.records import Place, Standing

_ROWS = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class SinkMetrics:
    """One process's figures, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry, prefix: str = "tailrace_sink") -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"{prefix}_{name}", text, labels, buckets=buckets, registry=registry)

        # Records that are in the warehouse and were brought there by this process, with a clean answer.
        self._rows = counter("rows_total", "Rows inserted.", "topic")
        self._dead_letters = counter("dead_letters_total", "Dead letters inserted.", "topic", "reason")
        # Batches, as they are cut: large under load, small when it is quiet.
        self._batch_rows = histogram("batch_rows", "Records of a batch.", _ROWS)
        self._batch_age = histogram("batch_age_seconds", "How long a batch had gathered.", _SECONDS)
        # Inserts, also those that failed: `outcome` is ok or the word of errors.py.
        self._inserts = histogram("insert_seconds", "Inserts by outcome.", _SECONDS, "table", "outcome")
        self._insert_bytes = counter("insert_bytes_total", "Bytes sent in inserts.", "table")
        # Where the time goes: poll and blocked are the loop's, the others the crew's, which add up over its threads.
        self._spent = counter(
            "spent_seconds_total", "Time by what it was spent on: poll, blocked, splice, a protocol step.", "on"
        )
        # Recoveries: every one is a fence, a drain and a reconciliation.
        self._owned = counter("ownerships_total", "Partitions owned: fence, drain, reconcile.", "topic")
        self._present = counter("reconciled_records_total", "Records found in place past the committed offset.", "topic")
        self._announced = counter("reannounced_dead_letters_total", "Dead letters found, and sent again.", "topic")
        self._failed = counter("failures_total", "Steps that did not end clean, by the error's kind.", "topic", "outcome")
        # Offsets that Kafka let go of before they were read: a gap for ever, recorded in ingest_gaps.
        self._gaps = counter("gaps_total", "Gaps recorded.", "topic", "reason")
        self._lost = counter("gap_offsets_total", "Offsets in recorded gaps whose end is known.", "topic", "reason")

    @contextmanager
    def spending(self, on: str) -> Iterator[None]:
        """Counts the time of a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._spent.labels(on).inc(time.perf_counter() - started)

    @contextmanager
    def insert(self, table: str, size_bytes: int) -> Iterator[None]:
        """Times one insert and notes how it ended."""
        started, outcome = time.perf_counter(), "error"
        try:
            yield
            outcome = "ok"
        except Retryable as error:
            outcome = error.outcome
            raise
        finally:
            self._inserts.labels(table, outcome).observe(time.perf_counter() - started)
            self._insert_bytes.labels(table).inc(size_bytes)

    def cut(self, batch: Batch, now_s: float) -> None:
        self._batch_rows.observe(len(batch.messages))
        self._batch_age.observe(now_s - (now_s if batch.opened_s is None else batch.opened_s))

    def inserted(self, place: Place, rows: int) -> None:
        self._rows.labels(place.topic).inc(rows)

    def buried(self, place: Place, reasons: list[str]) -> None:
        for reason, count in Tally(reasons).items():
            self._dead_letters.labels(place.topic, reason).inc(count)

    def reconciled(self, place: Place, found: Found) -> None:
        self._owned.labels(place.topic).inc()
        self._present.labels(place.topic).inc(found.present)
        self._announced.labels(place.topic).inc(len(found.letters))
        for gap in found.gaps:
            self._gaps.labels(place.topic, gap.reason).inc()
            self._lost.labels(place.topic, gap.reason).inc(0 if gap.end is None else gap.end - gap.first)

    def failed(self, place: Place, trouble: Retryable) -> None:
        self._failed.labels(place.topic, trouble.outcome).inc()

    def brought_in(self) -> tuple[int, int]:
        """(rows, dead letters) of this process so far."""
        return int(_total(self._rows)), int(_total(self._dead_letters))


class StandingCollector(Collector):
    """How the partitions stand at the moment of asking; a partition that is somebody else's now is not reported on."""

    def __init__(self, standings: Callable[[], Iterable[Standing]], bytes_in_hand: Callable[[], int]) -> None:
        self._standings, self._bytes_in_hand = standings, bytes_in_hand

    def collect(self) -> Iterator[GaugeMetricFamily]:
        standings = list(self._standings())
        yield GaugeMetricFamily("tailrace_sink_bytes_in_hand", "Fetched, and not in the warehouse yet.", self._bytes_in_hand())
        gathered = sum(standing.gathered for standing in standings)
        yield GaugeMetricFamily("tailrace_sink_gathered_records", "Records that wait for their batch to be due.", gathered)
        for name, text, figure in _FIGURES:
            family = GaugeMetricFamily(f"tailrace_sink_{name}", text, labels=("topic", "partition"))
            for standing in standings:
                family.add_metric((standing.place.topic, str(standing.place.partition)), figure(standing))
            yield family


_FIGURES: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
    ("lag_records", "Offsets that the log has and that are not committed.", lambda standing: standing.lag_records),
    ("lag_seconds", "Age of the oldest record in hand that is not in the warehouse.", lambda standing: standing.lag_s),
    ("waiting_seconds", "For how long there was something to do, without progress.", lambda standing: standing.waiting_s),
    ("last_progress_timestamp_seconds", "When a batch was last in; 0 before the first.", lambda standing: standing.progress_s),
    ("owned", "1 while the partition is owned, 0 while it rests or is being owned.", lambda standing: standing.owned),
    ("stopped", "1 while it waits for somebody to mend something.", lambda standing: standing.stopped),
)


def _total(counter: Counter) -> float:
    return sum(sample.value for family in counter.collect() for sample in family.samples if sample.name.endswith("_total"))
