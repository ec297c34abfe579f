"""The composition root for a host that embeds an emitter: settings, the real clock, real ids, Kafka and the registry."""

import time
from collections.abc import Mapping
from functools import partial

import uuid_utils

from producers.config import ProducerSettings, SpoolSettings
from producers.emitter import Emitter, Sources
from producers.experiment_publisher import ExperimentPublisher
from producers.kafka_experiment_log import KafkaExperimentLog
from producers.kafka_transport import SPOOLING_OPTIONS, KafkaTransport
from producers.schema_ids import RegistrySchemaIds
from producers.spool.directory import SpoolRoot
from producers.spool.file_system import PosixFileSystem
from producers.spool.log import SpoolLog
from producers.spool.spool import Spool
from producers.spooling import Spooling
from producers.writer_schemas import RegistryWriterSchemas
from schemas.events import Micros, ProducerId
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
    sources = Sources(partial(_transport, settings), partial(RegistrySchemaIds, settings.registry_url, settings.topic_prefix))
    return Emitter(
        sources.transport(),
        sources.schema_ids(),
        now_us=now_us,
        new_id=new_id,
        prefix=settings.topic_prefix,
        limits=settings.limits,
        spool=None if settings.spool is None else partial(_spooling, settings.spool, settings.topic_prefix),
        renew=sources,
    )


def publisher_for(settings: ProducerSettings) -> ExperimentPublisher:
    schema_ids = RegistrySchemaIds(settings.registry_url, settings.topic_prefix)
    return ExperimentPublisher(settings.kafka_bootstrap, settings.kafka_options, schema_ids, settings.topic_prefix)


def experiment_log_for(settings: ProducerSettings) -> KafkaExperimentLog:
    topic = topic_name(settings.topic_prefix, EXPERIMENTS)
    return KafkaExperimentLog(
        settings.kafka_bootstrap, settings.kafka_options, RegistryWriterSchemas(settings.registry_url), topic
    )


def _transport(settings: ProducerSettings) -> KafkaTransport:
    options = {} if settings.spool is None else SPOOLING_OPTIONS
    return KafkaTransport(settings.kafka_bootstrap, {**options, **settings.kafka_options})


def _spooling(settings: SpoolSettings, prefix: str, producer_id: ProducerId) -> Spooling:
    root = SpoolRoot(settings.directory, prefix)
    log = SpoolLog(root, producer_id, PosixFileSystem(), settings.limits, now_us=now_us, new_id=new_id)
    return Spooling(Spool(log), settings.durability, settings.limits.drain_events_s)
