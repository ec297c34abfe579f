"""Every metric of the archiver, in one place. Labels: topic; never a partition."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from stream_processors.archive.ledger import Entry


class ArchiveMetrics:
    """On a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"tailrace_archive_{name}_total", text, ("topic",), registry=registry)

        self._records = counter("records", "Records archived, those that are no datum of their topic included.")
        self._raw = counter("raw_records", "Of these, records that are no datum of their topic.")
        self._files = counter("files", "Files stored.")
        self._bytes = counter("bytes", "Bytes stored, compressed.")
        self._lost = counter("lost_offsets", "Offsets that had expired before they were archived.")
        self._second = counter("second", "Ranges that another archiver stored first.")
        self._newest = Gauge(
            "tailrace_archive_newest_timestamp_seconds",
            "Kafka's time of the newest archived record.",
            ("topic",),
            registry=registry,
        )
        self._failures = Counter("tailrace_archive_failures_total", "Times that a part did not answer.", registry=registry)

    def archived(self, entry: Entry) -> None:
        self._records.labels(entry.topic).inc(entry.rows)
        self._raw.labels(entry.topic).inc(sum(file.rows for file in entry.files if file.schema_id is None))
        self._files.labels(entry.topic).inc(len(entry.files))
        self._bytes.labels(entry.topic).inc(sum(file.bytes for file in entry.files))
        self._lost.labels(entry.topic).inc(sum(end - first for first, end in entry.lost))
        if entry.newest_ms is not None:
            self._newest.labels(entry.topic).set(entry.newest_ms / 1000)

    def second(self, topic: str) -> None:
        self._second.labels(topic).inc()

    def failed(self) -> None:
        self._failures.inc()
