"""The composition root for a host that embeds an emitter: settings, the real clock, real ids, Kafka and the registry."""

import time
from collections.abc import Mapping

import uuid_utils

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.experiment_publisher import ExperimentPublisher
from producers.kafka_experiment_log import KafkaExperimentLog
from producers.kafka_transport import KafkaTransport
from producers.schema_ids import RegistrySchemaIds
from producers.writer_schemas import RegistryWriterSchemas
from schemas.events import Micros
from schemas.topics import EXPERIMENTS, topic_name


def now_us() -> Micros:
    """Microseconds since 1970, UTC."""
    return Micros(time.time_ns() // 1_000)


def new_id() -> str:
    """A UUIDv7."""
    return str(uuid_utils.uuid7())


def emitter_from_environment(variables: Mapping[str, str]) -> Emitter:
    """An emitter for the installation that TAILRACE_* variables name. Raises ConfigurationError; needs no part to be up."""
    return emitter_for(ProducerSettings.from_environment(variables))


def emitter_for(settings: ProducerSettings) -> Emitter:
    return Emitter(
        KafkaTransport(settings.kafka_bootstrap, settings.kafka_options),
        RegistrySchemaIds(settings.registry_url, settings.topic_prefix),
        now_us=now_us,
        new_id=new_id,
        prefix=settings.topic_prefix,
        limits=settings.limits,
    )


def publisher_for(settings: ProducerSettings) -> ExperimentPublisher:
    schema_ids = RegistrySchemaIds(settings.registry_url, settings.topic_prefix)
    return ExperimentPublisher(settings.kafka_bootstrap, settings.kafka_options, schema_ids, settings.topic_prefix)


def experiment_log_for(settings: ProducerSettings) -> KafkaExperimentLog:
    topic = topic_name(settings.topic_prefix, EXPERIMENTS)
    return KafkaExperimentLog(
        settings.kafka_bootstrap, settings.kafka_options, RegistryWriterSchemas(settings.registry_url), topic
    )
