"""Every metric of the sink, in one place. Labels: topic (with its prefix), table, outcome, reason; never a unit or an event."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.records import Place


class SinkMetrics:
    """One process's figures, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tailrace_sink_{name}", text, labels, registry=registry)

        # Records that are in the warehouse and were brought there by this process.
        self._rows = counter("rows_total", "Rows inserted.", "topic")
        self._dead_letters = counter("dead_letters_total", "Dead letters inserted.", "topic", "reason")
        # Inserts, also those that failed: `outcome` is ok or the word of errors.py.
        self._inserts = Histogram("tailrace_sink_insert_seconds", "Inserts by outcome.", ("table", "outcome"), registry=registry)
        self._insert_bytes = counter("insert_bytes_total", "Bytes sent in inserts.", "table")
        # Recoveries: every one is a fence, a drain and a reconciliation.
        self._owned = counter("ownerships_total", "Partitions owned: fence, drain, reconcile.", "topic")
        self._present = counter("reconciled_records_total", "Records found in place past the committed offset.", "topic")
        self._given_up = counter("given_up_total", "Partitions given up after an error, by the error's kind.", "topic", "outcome")
        # Offsets that Kafka expired before they were read: a gap for ever.
        self._expired = counter("expired_offsets_total", "Offsets lost to retention before they were read.", "topic")
        self._lag = Gauge("tailrace_sink_lag_records", "Offsets not committed yet.", ("topic", "partition"), registry=registry)
        self._progress = Gauge(
            "tailrace_sink_last_progress_timestamp_seconds", "Last commit.", ("topic", "partition"), registry=registry
        )

        # Fetched, and in no insert yet: what a batch gathers while it waits for its rows, bytes or age.
        self._gathered = Gauge(
            "tailrace_sink_gathered_records", "Records that wait for their batch to be due.", registry=registry
        )

    def watch(self, gathered: Callable[[], int]) -> None:
        """Ask `gathered` whenever the figures are read."""
        self._gathered.set_function(gathered)

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

    def inserted(self, place: Place, rows: int) -> None:
        self._rows.labels(place.topic).inc(rows)

    def buried(self, place: Place, reasons: list[str]) -> None:
        for reason, count in Tally(reasons).items():
            self._dead_letters.labels(place.topic, reason).inc(count)

    def reconciled(self, place: Place, records: int) -> None:
        self._owned.labels(place.topic).inc()
        self._present.labels(place.topic).inc(records)

    def gave_up(self, place: Place, error: Retryable) -> None:
        self._given_up.labels(place.topic, error.outcome).inc()

    def expired(self, place: Place, offsets: int) -> None:
        self._expired.labels(place.topic).inc(offsets)

    def committed(self, place: Place, lag_records: int) -> None:
        self._lag.labels(place.topic, place.partition).set(lag_records)
        self._progress.labels(place.topic, place.partition).set_to_current_time()

    def forgotten(self, place: Place) -> None:
        """The partition is somebody else's now: stop reporting on it."""
        for gauge in (self._lag, self._progress):
            gauge.remove(place.topic, str(place.partition))
