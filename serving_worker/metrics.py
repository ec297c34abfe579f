"""Every metric of the worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class WorkerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "tailrace_serving_worker_requests", "Answered HTTP requests.", ["route", "status"], registry=registry
        )
        self.latency = Histogram(
            "tailrace_serving_worker_request_seconds",
            "From the request's head to its answer.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.degraded = Counter(
            "tailrace_serving_worker_degraded_answers", "Answers of the fallback, by reason.", ["reason"], registry=registry
        )
        self.exposures = Counter(
            "tailrace_serving_worker_exposures", "Answers that an arm decided.", ["experiment_id", "arm"], registry=registry
        )
        self.experiments_good = Gauge(
            "tailrace_serving_worker_experiments_good",
            "1 where the file of experiments was good when last read.",
            registry=registry,
        )
        self.experiments_reloads = Counter(
            "tailrace_serving_worker_experiments_reloads", "Changes of the file of experiments.", ["result"], registry=registry
        )
