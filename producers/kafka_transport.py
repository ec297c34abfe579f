"""Records to Kafka. The one file here that knows Kafka's client.

The producer is idempotent, so a record that librdkafka sends again is in the log once. What the broker does not take within
`message.timeout.ms` fails, and its delivery report says why. Memory is bounded by `queue.buffering.max.*`.

A client that has met a fatal error (an idempotent one does where a broker has lost data) takes nothing any more. What it holds
then fails as INTERRUPTED, and once all of that is told another client is made; no two of them within RENEWAL_PAUSE_S.
"""

import ctypes
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from weakref import WeakSet

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.errors import RecordRefused, TopicRefused
from producers.transport import INTERRUPTED, Headers, Keyed, OutboundRecord, Outcomes
from schemas.errors import ConfigurationError

logger = logging.getLogger(__name__)

SPOOLING_OPTIONS = MappingProxyType({"message.timeout.ms": "5000", "reconnect.backoff.max.ms": "1000"})
"""Where a spool stands behind the transport: what is not taken soon is better on disk, and is sent again from there."""

DEFAULT_OPTIONS = MappingProxyType(
    {
        "enable.idempotence": "true",
        "compression.type": "lz4",
        "linger.ms": "50",
        # With more, librdkafka's thread spins while a broker stalls under load, on up to half the core that requests run on:
        # a batch whose linger is over but that may not be sent yet has it wake at once, again and again.
        "max.in.flight.requests.per.connection": "2",
        # A topic that was not there is found when it comes.
        "topic.metadata.refresh.interval.ms": "30000",
        "message.timeout.ms": "60000",
        "queue.buffering.max.messages": "100000",
        "queue.buffering.max.kbytes": "131072",
        # The Java client's partitioner: whoever writes with the same key, in whatever language, hits the same partition.
        "partitioner": "murmur2_random",
    }
)

RENEWAL_PAUSE_S = 1.0
ANY_PARTITION, NOW = -1, 0

_OF_THE_RECORD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._BAD_MSG,  # noqa: SLF001 - these are their public names
        KafkaError._INVALID_ARG,  # noqa: SLF001
    }
)
"""What is wrong with a record itself, when it is offered."""
_OF_THE_CLIENT = frozenset({KafkaError._FATAL, KafkaError._STATE})  # noqa: SLF001
"""What no record is to blame for, nor its topic. Any other error is the topic's: it is not there, or may not be written to."""


class KafkaTransport:
    """`options` are librdkafka's and win over DEFAULT_OPTIONS. Raises ConfigurationError where librdkafka refuses them."""

    def __init__(self, bootstrap: str, options: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._delivered: list[OutboundRecord] = []
        self._together: Counter[Hashable] = Counter()
        self._failed: list[tuple[OutboundRecord, str]] = []
        self._troubled = False
        self._in_flight = 0
        """Counted here: the client's own length has its logs and errors in it."""
        self._broken = False
        self._renewals = 0
        self._renew_at = 0.0
        self._monotonic = monotonic
        self._settings = {**DEFAULT_OPTIONS, "bootstrap.servers": bootstrap, **options, "error_cb": self._note, "logger": logger}
        try:
            self._producer = Producer(self._settings)
        except KafkaException as error:
            raise ConfigurationError((f"TAILRACE_KAFKA_BOOTSTRAP or TAILRACE_KAFKA_OPTIONS: {error.args[0].str()}",)) from error
        _MADE.add(self)

    def offer(self, record: OutboundRecord) -> bool:
        try:
            self._producer.produce(
                record.topic, record.value, record.key, on_delivery=partial(self._deliver, record), headers=list(record.headers)
            )
        except BufferError:
            return False
        except KafkaException as error:
            self._blame(error)
            return False
        self._in_flight += 1
        return True

    def offer_together(self, records: Sequence[Keyed], headers: Headers, ticket: Hashable) -> int:
        produce, taken = self._producer.produce, 0
        deliver = partial(self._deliver_together, ticket)
        listed: list[tuple[str, str | bytes | None]] = [*headers]
        try:
            for topic, key, value in records:
                produce(topic, value, key, ANY_PARTITION, deliver, deliver, NOW, listed)  # by name it costs half as much again
                taken += 1
        except BufferError:
            pass
        except KafkaException as error:
            if not taken:
                self._blame(error)
        self._in_flight += taken
        return taken

    def poll(self, timeout_s: float) -> Outcomes:
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:  # so the client tells of what is fatal
            self._break(error)
        outcomes = Outcomes(self._delivered, self._failed, self._together)
        self._delivered, self._failed, self._together = [], [], Counter()
        self._in_flight -= outcomes.told
        if self._broken and not self._in_flight and self._monotonic() >= self._renew_at:
            self._renew()
        return outcomes

    def in_flight(self) -> int:
        return self._in_flight

    def troubled(self) -> bool:
        troubled, self._troubled = self._troubled or self._broken, False
        return troubled

    def renewals(self) -> int:
        return self._renewals

    def abandon(self) -> None:
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)

    def close(self) -> None:
        self.abandon()
        with suppress(KafkaException):  # what is fatal to the client ends it no more than this does
            self._producer.flush(1.0)

    def keep(self) -> None:
        """Have the handle outlive everything, the interpreter too."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))

    def _deliver(self, record: OutboundRecord, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._delivered.append(record)
        else:
            self._failed.append((record, self._failure(error)))

    def _deliver_together(self, ticket: Hashable, error: KafkaError | None, message: Message) -> None:
        """One callback for all of a ticket's, which costs half as much; so it is the client's copy that says which has failed."""
        if error is None:
            self._together[ticket] += 1
        else:
            topic, key, value = message.topic(), message.key(), message.value()
            assert topic is not None and key is not None and value is not None, "a report has what was sent"  # noqa: PT018
            self._failed.append((OutboundRecord(topic, key, value, ticket=ticket), self._failure(error)))

    def _failure(self, error: KafkaError) -> str:
        return INTERRUPTED if self._broken else _word(error)

    def _blame(self, error: KafkaException) -> None:
        """Raises RecordRefused where the record is to blame for it, TopicRefused where its topic is."""
        kafka_error: KafkaError = error.args[0]
        if kafka_error.code() in _OF_THE_RECORD:
            raise RecordRefused(_word(kafka_error), kafka_error.str()) from error
        if not (kafka_error.fatal() or kafka_error.code() in _OF_THE_CLIENT):
            raise TopicRefused(_word(kafka_error), kafka_error.str()) from error
        self._break(error)

    def _break(self, error: KafkaException) -> None:
        """Have all that the client holds fail."""
        if not self._broken:
            self._broken = True
            logger.warning("Kafka's client has broken down, another one will be made: %s", error)
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)

    def _renew(self) -> None:
        self._renew_at = self._monotonic() + RENEWAL_PAUSE_S
        try:
            self._producer = Producer(self._settings)
        except KafkaException as error:
            logger.warning("Kafka's client cannot be made anew, it is tried again: %s", error)
            return
        self._renewals += 1
        self._broken = False

    def _note(self, error: KafkaError) -> None:
        """Told by librdkafka of what belongs to no record, from within `poll`."""
        self._troubled |= error.code() == KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - that is its public name


_MADE: WeakSet[KafkaTransport] = WeakSet()


def _leave_to_parent() -> None:
    """In a forked process librdkafka's threads are gone, with whatever locks they held: to let go of a handle may wait for one
    of those for ever. So it never goes, not even when the interpreter ends.
    """
    for transport in list(_MADE):
        transport.keep()


os.register_at_fork(after_in_child=_leave_to_parent)


def _word(error: KafkaError) -> str:
    """The name of a client's error as a word: `_MSG_TIMED_OUT` is msg_timed_out."""
    return error.name().strip("_").lower()
