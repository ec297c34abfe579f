"""Every metric of the worker."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving_worker.isolation.breaker import State
from serving_worker.isolation.pool import PoolStatus

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class WorkerMetrics:
    """What is counted while it happens, by its subject."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.http = HttpMetrics(registry)
        self.arms = ArmMetrics(registry)
        self.experiments = ExperimentMetrics(registry)


class HttpMetrics:
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


class ArmMetrics:
    """What became of requests, by who decided them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.exposures = Counter(
            "tailrace_serving_worker_exposures",
            "Answers that an arm decided, degraded ones included; those that none decided have no arm.",
            ["experiment_id", "arm"],
            registry=registry,
        )
        self.degraded = Counter(
            "tailrace_serving_worker_degraded_answers",
            "Of them, answers of the fallback, by reason.",
            ["experiment_id", "arm", "reason"],
            registry=registry,
        )
        self.shed = Counter(
            "tailrace_serving_worker_shed_requests",
            "Requests that an arm would have decided, and that were refused for load.",
            ["experiment_id", "arm"],
            registry=registry,
        )
        self.shadow = Counter(
            "tailrace_serving_worker_shadow_rankings",
            "Requests that a candidate was to rank unseen: ranked, failed, or dropped before it was asked.",
            ["policy_id", "outcome"],
            registry=registry,
        )


class ExperimentMetrics:
    """The definitions that this worker serves from."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.good = Gauge(
            "tailrace_serving_worker_experiments_good",
            "1 where the file of experiments was good when last read.",
            registry=registry,
        )
        self.reloads = Counter(
            "tailrace_serving_worker_experiments_reloads",
            "Changes of the file of experiments, to the good or to the bad, and looks at it that failed.",
            ["result"],
            registry=registry,
        )
        self.as_of = Gauge(
            "tailrace_serving_worker_experiments_as_of_seconds",
            "When the snapshot of experiments was last known to be the newest, in seconds since 1970; 0 where none is followed.",
            registry=registry,
        )
        self.follow_failures = Counter(
            "tailrace_serving_worker_experiments_follow_failures",
            "Tries of this process to have the topic of experiments followed that failed; another process may do better.",
            registry=registry,
        )
        self.killed = Gauge(
            "tailrace_serving_worker_experiments_killed", "Experiments that the kill file names.", registry=registry
        )


class PolicyMetrics:
    """The processes of policies, read when somebody scrapes. `read` has them by what they are for: live, shadow."""

    def __init__(self, registry: CollectorRegistry, read: Mapping[str, Callable[[], Mapping[str, PoolStatus]]]) -> None:
        self._read = read
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: all are read when they are asked for."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        labels = ["use", "policy_id"]
        up = GaugeMetricFamily("tailrace_serving_worker_policy_processes", "Processes that are up.", labels=labels)
        waiting = GaugeMetricFamily("tailrace_serving_worker_policy_waiting", "Requests that wait for one.", labels=labels)
        closed = GaugeMetricFamily(
            "tailrace_serving_worker_policy_breaker_closed",
            "1 where the policy is asked, 0 where it failed too often.",
            labels=labels,
        )
        started = CounterMetricFamily("tailrace_serving_worker_policy_starts", "Processes that came up.", labels=labels)
        overrun = CounterMetricFamily(
            "tailrace_serving_worker_policy_overruns", "Processes killed for their time.", labels=labels
        )
        for use, read in self._read.items():
            for name, status in read().items():
                up.add_metric([use, name], len(status.pids))
                waiting.add_metric([use, name], status.waiting)
                closed.add_metric([use, name], status.breaker is State.CLOSED)
                started.add_metric([use, name], status.started)
                overrun.add_metric([use, name], status.overrun)
        return iter((up, waiting, closed, started, overrun))
