"""Publishing experiments' revisions to the compacted topic, each under its own key, and waiting for the acknowledgement."""

import time
from collections.abc import Sequence

from producers.errors import PublishError, RecordRefused
from producers.schema_ids import SchemaIds
from producers.transport import OutboundRecord, Transport
from schemas.codec import Codec
from schemas.events import ExperimentDefinition
from schemas.topics import DEFAULT_PREFIX, EXPERIMENTS, topic_name

POLL_S = 0.1


def revision_key(definition: ExperimentDefinition) -> str:
    return f"{definition.experiment_id}:{definition.revision}"


class ExperimentPublisher:
    """Owns `transport` and `schema_ids`, and closes them."""

    def __init__(self, transport: Transport, schema_ids: SchemaIds, prefix: str = DEFAULT_PREFIX) -> None:
        self._transport, self._schema_ids = transport, schema_ids
        self._topic = topic_name(prefix, EXPERIMENTS)
        self._codec = Codec(ExperimentDefinition)

    def publish(self, definitions: Sequence[ExperimentDefinition], timeout_s: float) -> None:
        """Return when the broker has acknowledged every revision.

        Publishing a revision again replaces it in the topic. Raises SchemaUnavailable before anything is sent; PublishError where
        a revision is refused, fails, or is not acknowledged within `timeout_s`: some of the others may then be published.
        """
        deadline = time.monotonic() + timeout_s
        schema_id = self._schema_ids.lookup(EXPERIMENTS)
        for definition in definitions:
            self._send(definition, schema_id, deadline)
        while self._transport.in_flight():
            self._settle(deadline)

    def close(self) -> None:
        self._transport.close()
        self._schema_ids.close()

    def _send(self, definition: ExperimentDefinition, schema_id: int, deadline: float) -> None:
        key = revision_key(definition)
        record = OutboundRecord(self._topic, key.encode(), self._codec.encode(definition, schema_id))
        try:
            while not self._transport.offer(record):
                self._settle(deadline)
        except RecordRefused as error:
            raise PublishError(f"{key} was refused: {error}") from error

    def _settle(self, deadline: float) -> None:
        for outcome in self._transport.poll(POLL_S):
            if outcome.failure is not None:
                raise PublishError(f"{outcome.topic}: the broker did not take a revision: {outcome.failure}")
        if self._transport.in_flight() and time.monotonic() >= deadline:
            raise PublishError(f"{self._topic}: {self._transport.in_flight()} revisions were not acknowledged in time")
