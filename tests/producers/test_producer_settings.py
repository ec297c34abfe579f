import pytest
from prometheus_client import CollectorRegistry

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.memory_transport import MemoryTransport
from producers.metrics import EmitterMetrics
from schemas.errors import ConfigurationError
from schemas.events import Micros
from tests.producers.event_samples import MALFORMED, SERVED, KnownSchemaIds


def test_settings_come_from_the_environment() -> None:
    settings = ProducerSettings.from_environment(
        {
            "TAILRACE_KAFKA_BOOTSTRAP": "broker:9092",
            "TAILRACE_REGISTRY_URL": "http://registry:8081",
            "TAILRACE_TOPIC_PREFIX": "staging.",
            "TAILRACE_KAFKA_OPTIONS": "linger.ms=5, security.protocol=SSL",
            "TAILRACE_EMITTER_QUEUE_EVENTS_MAX": "7",
            "TAILRACE_EMITTER_CHECKPOINT_INTERVAL_MS": "1500",
        }
    )
    assert (settings.kafka_bootstrap, settings.registry_url, settings.topic_prefix) == (
        "broker:9092",
        "http://registry:8081",
        "staging.",
    )
    assert settings.kafka_options == {"linger.ms": "5", "security.protocol": "SSL"}
    assert (settings.limits.queue_events_max, settings.limits.checkpoint_interval_s) == (7, 1.5)


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ProducerSettings.from_environment({"TAILRACE_REGISTRY_URL": "registry", "TAILRACE_EMITTER_QUEUE_EVENTS_MAX": "0"})
    named = " ".join(refusal.value.problems)
    assert all(
        name in named for name in ("TAILRACE_KAFKA_BOOTSTRAP", "TAILRACE_REGISTRY_URL", "TAILRACE_EMITTER_QUEUE_EVENTS_MAX")
    )


def test_metrics_tell_what_became_of_the_events() -> None:
    emitter = Emitter(
        MemoryTransport(),
        KnownSchemaIds(),
        now_us=lambda: Micros(0),
        new_id=lambda: "0190c1de-0000-7000-8000-000000000000",
    )
    registry = CollectorRegistry()
    EmitterMetrics(registry, emitter.status)
    for event in (SERVED, SERVED, MALFORMED):
        emitter.emit(event)
    emitter.close(5.0)
    topic = {"topic": "recommendations"}
    assert registry.get_sample_value("tailrace_producers_emitted_events_total", topic) == 3
    assert registry.get_sample_value("tailrace_producers_acknowledged_events_total", topic) == 2
    assert registry.get_sample_value("tailrace_producers_dropped_events_total", {**topic, "reason": "encode"}) == 1
    assert registry.get_sample_value("tailrace_producers_queue_events_max") == 20_000
