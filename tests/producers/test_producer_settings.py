from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from producers.config import Durability, ProducerSettings, SpoolLimits, SpoolSettings
from producers.emitter import Emitter
from producers.memory_transport import MemoryTransport
from producers.metrics import EmitterMetrics
from schemas.errors import ConfigurationError
from schemas.events import Micros
from tests.producers.event_samples import MALFORMED, SERVED, KnownSchemaIds
from tests.producers.spools import spooling_emitter


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


BASE = {"TAILRACE_KAFKA_BOOTSTRAP": "broker:9092", "TAILRACE_REGISTRY_URL": "http://registry:8081"}


def test_without_a_directory_events_stay_in_memory_and_with_one_they_are_spooled_on_errors() -> None:
    assert ProducerSettings.from_environment(BASE).spool is None
    spool = ProducerSettings.from_environment({**BASE, "TAILRACE_SPOOL_DIR": "/var/spool/tailrace"}).spool
    assert spool == SpoolSettings(Path("/var/spool/tailrace"), Durability.SPOOL_ON_ERROR)
    memory = {**BASE, "TAILRACE_SPOOL_DIR": "/var/spool/tailrace", "TAILRACE_EMITTER_DURABILITY": "memory"}
    assert ProducerSettings.from_environment(memory).spool is None


def test_the_spools_caps_and_rates_are_settings() -> None:
    named = {
        "TAILRACE_SPOOL_DIR": "spool",
        "TAILRACE_EMITTER_DURABILITY": "write_ahead",
        "TAILRACE_SPOOL_BYTES_MAX": "2000000",
        "TAILRACE_SPOOL_AGE_S_MAX": "60",
        "TAILRACE_SPOOL_FSYNC_MS": "5",
        "TAILRACE_SPOOL_DRAIN_EVENTS_S": "100",
    }
    spool = ProducerSettings.from_environment({**BASE, **named}).spool
    assert spool == SpoolSettings(Path("spool"), Durability.WRITE_AHEAD, SpoolLimits(2_000_000, 60, 5, 100))


@pytest.mark.parametrize(
    "wrong",
    [
        {"TAILRACE_EMITTER_DURABILITY": "forever"},
        {"TAILRACE_EMITTER_DURABILITY": "write_ahead"},
        {"TAILRACE_SPOOL_DIR": "spool", "TAILRACE_SPOOL_BYTES_MAX": "10"},
    ],
)
def test_a_spool_that_cannot_be_is_refused_by_name(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ProducerSettings.from_environment({**BASE, **wrong})
    assert list(wrong)[-1] in str(refusal.value)


def test_metrics_of_a_spool_tell_what_is_on_disk(tmp_path: Path) -> None:
    emitter = spooling_emitter(tmp_path, MemoryTransport(reachable=False), Durability.SPOOL_ON_ERROR)
    registry = CollectorRegistry()
    EmitterMetrics(registry, emitter.status)
    for _ in range(3):
        emitter.emit(SERVED)
    emitter.close(0.5)
    topic = {"topic": "recommendations"}
    assert registry.get_sample_value("tailrace_producers_spooled_events", topic) == 3
    assert registry.get_sample_value("tailrace_producers_queued_events", topic) == 0
    assert registry.get_sample_value("tailrace_producers_diverted") == 1
    assert registry.get_sample_value("tailrace_producers_spool_written_events_total") == 4  # the closing checkpoint too
    assert (registry.get_sample_value("tailrace_producers_spool_bytes") or 0) > 300
    assert registry.get_sample_value("tailrace_producers_spool_downgrades_total") == 0


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
