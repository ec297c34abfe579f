"""Records to Kafka. The one file here that knows Kafka's client.

The producer is idempotent, so a record that librdkafka sends again is in the log once. What the broker does not take within
`message.timeout.ms` fails, and its delivery report says why. Memory is bounded by `queue.buffering.max.*`.
"""

import ctypes
import logging
import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from weakref import WeakSet

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.errors import RecordRefused
from producers.transport import Headers, Keyed, OutboundRecord, Outcomes
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
        "message.timeout.ms": "60000",
        "queue.buffering.max.messages": "100000",
        "queue.buffering.max.kbytes": "131072",
        # The Java client's partitioner: whoever writes with the same key, in whatever language, hits the same partition.
        "partitioner": "murmur2_random",
    }
)


class KafkaTransport:
    """`options` are librdkafka's and win over DEFAULT_OPTIONS. Raises ConfigurationError where librdkafka refuses them."""

    def __init__(self, bootstrap: str, options: Mapping[str, str]) -> None:
        self._delivered: list[OutboundRecord] = []
        self._together: Counter[Hashable] = Counter()
        self._failed: list[tuple[OutboundRecord, str]] = []
        self._troubled = False
        self._in_flight = 0
        """Counted here: the client's own length has its logs and errors in it."""
        settings = {**DEFAULT_OPTIONS, "bootstrap.servers": bootstrap, **options}
        try:
            self._producer = Producer({**settings, "error_cb": self._note, "logger": logger})
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
            raise _refused(error) from error
        self._in_flight += 1
        return True

    def offer_together(self, records: Sequence[Keyed], headers: Headers, ticket: Hashable) -> int:
        produce, taken = self._producer.produce, 0
        deliver = partial(self._deliver_together, ticket)
        listed: list[tuple[str, str | bytes | None]] = [*headers]
        try:
            for topic, key, value in records:
                produce(topic, value, key, on_delivery=deliver, headers=listed)
                taken += 1
        except BufferError:
            pass
        except KafkaException as error:
            if not taken:
                raise _refused(error) from error
        self._in_flight += taken
        return taken

    def poll(self, timeout_s: float) -> Outcomes:
        self._producer.poll(timeout_s)
        outcomes = Outcomes(self._delivered, self._failed, self._together)
        self._delivered, self._failed, self._together = [], [], Counter()
        self._in_flight -= outcomes.told
        return outcomes

    def in_flight(self) -> int:
        return self._in_flight

    def troubled(self) -> bool:
        troubled, self._troubled = self._troubled, False
        return troubled

    def abandon(self) -> None:
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)

    def close(self) -> None:
        self.abandon()
        self._producer.flush(1.0)

    def keep(self) -> None:
        """Have the handle outlive everything, the interpreter too."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))

    def _deliver(self, record: OutboundRecord, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._delivered.append(record)
        else:
            self._failed.append((record, _word(error)))

    def _deliver_together(self, ticket: Hashable, error: KafkaError | None, message: Message) -> None:
        """One callback for all of a ticket's, which costs half as much; so it is the client's copy that says which has failed."""
        if error is None:
            self._together[ticket] += 1
        else:
            topic, key, value = message.topic(), message.key(), message.value()
            assert topic is not None and key is not None and value is not None, "a report has what was sent"  # noqa: PT018
            self._failed.append((OutboundRecord(topic, key, value, ticket=ticket), _word(error)))

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


def _refused(error: KafkaException) -> RecordRefused:
    kafka_error: KafkaError = error.args[0]
    return RecordRefused(_word(kafka_error), kafka_error.str())


def _word(error: KafkaError) -> str:
    """The name of a client's error as a word: `_MSG_TIMED_OUT` is msg_timed_out."""
    return error.name().strip("_").lower()
