"""Publishing experiments' revisions to the compacted topic: all of them or none, and never two publishers at once.

Publishers share one transactional id. Who begins fences all who began before: what those have not committed is aborted, and what
they try to commit later is refused. Inside the fence the topic's end is therefore final until this publisher is done or fenced.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from producers.errors import PublishError
from producers.schema_ids import SchemaIds
from schemas.codec import Codec
from schemas.errors import ConfigurationError
from schemas.events import ExperimentDefinition
from schemas.topics import DEFAULT_PREFIX, EXPERIMENTS, topic_name

logger = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_MS = 15_000
"""After so long the brokers abort what a publisher that died has left open; readers wait for that."""
OPTIONS = {
    "transaction.timeout.ms": str(TRANSACTION_TIMEOUT_MS),
    "message.timeout.ms": str(TRANSACTION_TIMEOUT_MS - 5_000),
    "enable.idempotence": "true",
    "partitioner": "murmur2_random",
}
_FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})  # noqa: SLF001 - public


class Overtaken(Exception):  # noqa: N818 - says what is the case
    """Another publisher has begun after this one: nothing of this one is in the topic."""


def revision_key(definition: ExperimentDefinition) -> str:
    return f"{definition.experiment_id}:{definition.revision}"


class ExperimentPublisher:
    """Owns `schema_ids`, and closes them. Raises ConfigurationError where librdkafka refuses `options`."""

    def __init__(self, bootstrap: str, options: Mapping[str, str], schema_ids: SchemaIds, prefix: str = DEFAULT_PREFIX) -> None:
        named = {"bootstrap.servers": bootstrap, "transactional.id": f"{prefix}experiments-apply"}
        try:
            self._producer = Producer({**options, **OPTIONS, **named, "logger": logger})
        except KafkaException as error:
            raise ConfigurationError((f"TAILRACE_KAFKA_BOOTSTRAP or TAILRACE_KAFKA_OPTIONS: {error.args[0].str()}",)) from error
        self._schema_ids, self._topic = schema_ids, topic_name(prefix, EXPERIMENTS)
        self._codec = Codec(ExperimentDefinition)

    def publish(self, choose: Callable[[], Sequence[ExperimentDefinition]], timeout_s: float) -> tuple[ExperimentDefinition, ...]:
        """Fence the others, ask `choose` what to publish, and return it when the brokers have it, all of it.

        Each step may take `timeout_s`. Raises SchemaUnavailable before anything is done, Overtaken, what `choose` raises, and
        PublishError where the brokers do not answer: whether the revisions are in the topic then has to be looked up.
        """
        schema_id = self._schema_ids.lookup(EXPERIMENTS)
        self._step(self._producer.init_transactions, timeout_s)
        chosen = tuple(choose())
        if not chosen:
            return ()
        self._step(self._producer.begin_transaction)
        for definition in chosen:
            value = self._codec.encode(definition, schema_id)
            self._step(self._producer.produce, self._topic, value, revision_key(definition))
        self._step(self._producer.commit_transaction, timeout_s)
        return chosen

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)
        self._schema_ids.close()

    def _step(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            if kafka_error.code() in _FENCED:
                raise Overtaken("somebody else is applying experiments and began later; nothing was published") from error
            raise PublishError(f"{self._topic}: {kafka_error.str()}") from error
