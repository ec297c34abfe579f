"""The topic of dead letters: original bytes, with reason, error and coordinates in the headers; at least once."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_processors.warehouse.errors import BrokerTrouble
from stream_processors.warehouse.records import Place, Rejection

ACKNOWLEDGE_TIMEOUT_S = 30.0


class DeadLetterTopic:
    """Publishes dead letters and waits for the broker's word."""

    def __init__(self, bootstrap: str, topic: str, options: Mapping[str, str]) -> None:
        self._topic = topic
        client = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        delivery = {
            "enable.idempotence": True,
            "message.timeout.ms": int(ACKNOWLEDGE_TIMEOUT_S * 1000),
            "compression.type": "lz4",
        }
        self._producer = Producer({**client, **delivery})

    def publish(self, topic_id: UUID, place: Place, rejections: Iterable[Rejection]) -> None:
        """Returns when all are acknowledged. Raises BrokerTrouble."""
        failures: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        try:
            for rejection in rejections:
                self._produce(topic_id, place, rejection, on_delivery)
            waiting = self._producer.flush(ACKNOWLEDGE_TIMEOUT_S)
        except (BufferError, KafkaException) as error:
            raise BrokerTrouble(f"dead letters of {place}: {error}") from error
        if failures or waiting:
            raise BrokerTrouble(f"dead letters of {place}: {failures[0] if failures else f'{waiting} not acknowledged'}")

    def _produce(self, topic_id: UUID, place: Place, rejection: Rejection, on_delivery: object) -> None:
        letter = rejection.letter
        headers = {
            "tailrace.reason": letter.reason.encode(),
            "tailrace.error": letter.error.encode(),
            "tailrace.topic": letter.topic.encode(),
            "tailrace.partition": str(place.partition).encode(),
            "tailrace.offset": str(rejection.offset).encode(),
            "tailrace.schema_id": str(rejection.schema_id).encode(),
            **({} if letter.key is None else {"tailrace.key": letter.key}),
        }
        original = [(header.name, header.value) for header in letter.headers]
        key = f"{topic_id}:{place.partition}:{rejection.offset}"
        self._producer.produce(
            self._topic,
            letter.value,
            key,
            headers=[*headers.items(), *original],
            on_delivery=on_delivery,  # type: ignore[arg-type]
        )
