"""Every metric of the warehouse server, by name."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class ServerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.queries = Counter(
            "tailrace_warehouse_server_queries_total",
            "Queries answered. kind: insert, read, none (refused before it was known); outcome: ok, error, cancelled.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "tailrace_warehouse_server_query_seconds",
            "From the request's headers to the last byte of its answer.",
            ("kind",),
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.running = Gauge(
            "tailrace_warehouse_server_running_queries", "Queries that have an engine thread.", registry=registry
        )
        self.waiting = Gauge(
            "tailrace_warehouse_server_waiting_queries", "Queries that wait for an engine thread.", registry=registry
        )
        self.rejected = Counter(
            "tailrace_warehouse_server_rejected_total",
            "Requests turned away. reason: too_many_queries, too_many_sessions, refused_statement.",
            ("reason",),
            registry=registry,
        )
        self.received_bytes = Counter(
            "tailrace_warehouse_server_received_bytes_total", "Request bodies, decompressed.", registry=registry
        )
        self.sent_bytes = Counter("tailrace_warehouse_server_sent_bytes_total", "Result bodies, as sent.", registry=registry)
