"""The producers' edge: writes drafts into an installation's topics, and notes every acknowledgement in the ledger.

Every record is acknowledged in the end, or the run fails: an oracle that does not know what Kafka has is none.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from uuid import UUID

from confluent_kafka import KafkaError, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from schemas.contracts import contract
from schemas.topics import INTERACTIONS, PRODUCER_CHECKPOINTS, RECOMMENDATIONS, Topic, subject, topic_name
from tests.faults.ledger import Coordinates, Fate, Ledger
from tests.faults.records import Draft, Drafts, Mix, SchemaIds, with_newer_field

ANSWER_TIMEOUT_S = 20
FLUSH_LIMIT_S = 280
"""Below message.timeout.ms: what is not acknowledged by then fails the run, and is not silently given up."""
POLL_EVERY_RECORDS = 500
TRICKLE_INTERVAL_S = 0.05
TRANSACTION_RECORDS = 40

_HALF = (1 << 64) - 1


class TrafficError(Exception):
    """The broker did not take a record: the ledger can no longer say what is in Kafka."""


class Traffic:
    """Safe for one writing thread at a time beside the trickle, which `trickling` starts."""

    def __init__(self, variables: Mapping[str, str], ledger: Ledger, random: Random, mix: Mix) -> None:
        self._prefix, self._bootstrap = variables["TAILRACE_TOPIC_PREFIX"], variables["TAILRACE_KAFKA_BOOTSTRAP"]
        self._ledger, self._random = ledger, random
        self._drafts = Drafts(schema_ids(variables), random, mix)
        self._lock = threading.Lock()
        self._failures: list[str] = []
        self._topic_ids: dict[str, str] = {}
        self._producer = self._new_producer()

    def send(self, count: int) -> None:
        """Write `count` records; returns when all are acknowledged."""
        with self._lock:
            for number, draft in enumerate(self._drafts.take(count)):
                self._produce(self._producer, draft)
                if number % POLL_EVERY_RECORDS == 0:
                    self._producer.poll(0)
            self._flush(self._producer)

    def send_in_transactions(self, count: int, abort_share: float) -> None:
        """The same by a transactional producer; a share of its transactions is aborted."""
        with self._lock:
            producer = self._transactional()
            for _ in range(0, count, TRANSACTION_RECORDS):
                aborted = self._random.random() < abort_share
                producer.begin_transaction()
                for draft in self._drafts.take(TRANSACTION_RECORDS):
                    self._produce(producer, _aborted(draft) if aborted else draft)
                self._flush(producer)
                (producer.abort_transaction if aborted else producer.commit_transaction)(ANSWER_TIMEOUT_S)

    def trickling(self, records_per_s: float) -> "Trickle":
        return Trickle(self.send, records_per_s)

    def topic_id(self, topic: Topic) -> str:
        name = topic_name(self._prefix, topic)
        if name not in self._topic_ids:
            admin = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
            described = admin.describe_topics(TopicCollection([name]), request_timeout=ANSWER_TIMEOUT_S)
            found = described[name].result().topic_id
            high, low = found.get_most_significant_bits() & _HALF, found.get_least_significant_bits() & _HALF
            self._topic_ids[name] = str(UUID(int=high << 64 | low))
        return self._topic_ids[name]

    def topics_were_made_anew(self) -> None:
        """Forget ids, and the producer with what it believes of the old topics."""
        with self._lock:
            self._topic_ids.clear()
            self._producer = self._new_producer()

    def _new_producer(self) -> Producer:
        """It finds a broker that has been away within half a second, so that a pause is not its own."""
        options = {"enable.idempotence": True, "reconnect.backoff.max.ms": 500, "log_level": 0}
        return Producer({"bootstrap.servers": self._bootstrap, **options})

    def _produce(self, producer: Producer, draft: Draft) -> None:
        topic_id = self.topic_id(draft.topic)

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None or partition is None or offset is None:
                self._failures.append(str(error))
            else:
                self._ledger.note(Coordinates(topic_id, partition, offset), draft.entry)

        producer.produce(topic_name(self._prefix, draft.topic), draft.value, draft.key, on_delivery=on_delivery)

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(FLUSH_LIMIT_S)
        if left or self._failures:
            raise TrafficError(f"{left} records not acknowledged, {self._failures[:3]}")

    def _transactional(self) -> Producer:
        options = {"bootstrap.servers": self._bootstrap, "log_level": 0, "transactional.id": f"{self._prefix}faults"}
        producer = Producer(options)
        producer.init_transactions(ANSWER_TIMEOUT_S)
        return producer


class Trickle:
    """A thread that writes at a steady rate while the block lasts. What went wrong in it is raised at the block's end."""

    def __init__(self, send: Callable[[int], None], records_per_s: float) -> None:
        self._send, self._count = send, max(1, round(records_per_s * TRICKLE_INTERVAL_S))
        self._ending = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(FLUSH_LIMIT_S)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._ending.wait(TRICKLE_INTERVAL_S):
                self._send(self._count)
        except Exception as error:  # noqa: BLE001 - the top of a thread: it is raised where the block ends
            self._failure = error


def schema_ids(variables: Mapping[str, str]) -> SchemaIds:
    """Ids of the released schemas, and of a second version of Interaction that is registered here."""
    prefix = variables["TAILRACE_TOPIC_PREFIX"]
    newer = Schema(json.dumps(with_newer_field(contract("Interaction").newest.schema)), "AVRO")
    with SchemaRegistryClient({"url": variables["TAILRACE_REGISTRY_URL"]}) as registry:

        def released(topic: Topic) -> int:
            assert topic.record is not None, "the harness writes records only"
            schema = Schema(contract(topic.record).newest.text, "AVRO")
            found: int | None = registry.lookup_schema(subject(prefix, topic), schema).schema_id
            assert found is not None, "provisioning has registered it"
            return found

        newer_id: int = registry.register_schema(subject(prefix, INTERACTIONS), newer)
        return SchemaIds(released(INTERACTIONS), newer_id, released(RECOMMENDATIONS), released(PRODUCER_CHECKPOINTS))


def _aborted(draft: Draft) -> Draft:
    return replace(draft, entry=replace(draft.entry, fate=Fate.NOTHING))
