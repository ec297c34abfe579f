"""The topic of dead letters: original bytes, with reason, error and coordinates in the headers; at least once.

A record that its own topic took may be too large for this one, with its headers. Its letter then goes without value and without
the record's own headers, and says so (`tailrace.left_out`): the table has them. Threads may share it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.events import Header
from stream_processors.warehouse.errors import BrokerTrouble
from stream_processors.warehouse.records import Place, Rejection

ACKNOWLEDGE_TIMEOUT_S = 30.0
LETTERS_IN_FLIGHT_MAX = 10_000
LETTER_BYTES_MAX = 64 << 20
"""What this client would send. Brokers take less, each its own."""
LEFT_OUT = "tailrace.left_out"
_POLL_S = 0.1


class DeadLetterTopic:
    """Publishes dead letters and waits for the broker's word."""

    def __init__(self, bootstrap: str, topic: str, options: Mapping[str, str]) -> None:
        self._topic = topic
        client = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        delivery = {
            "enable.idempotence": True,
            "message.timeout.ms": int(ACKNOWLEDGE_TIMEOUT_S * 1000),
            "message.max.bytes": LETTER_BYTES_MAX,
            "compression.type": "lz4",
        }
        self._producer = Producer({**client, **delivery})

    def publish(self, topic_id: UUID, place: Place, rejections: Sequence[Rejection]) -> None:
        """Returns when all are acknowledged. Raises BrokerTrouble."""
        for first in range(0, len(rejections), LETTERS_IN_FLIGHT_MAX):
            letters = [_letter(topic_id, place, each) for each in rejections[first : first + LETTERS_IN_FLIGHT_MAX]]
            too_large = self._send(place, letters)
            if too_large and self._send(place, [letter.without_value() for letter in too_large]):
                raise BrokerTrouble(f"dead letters of {place} are too large for {self._topic} even without their values")

    def _send(self, place: Place, letters: Sequence["_Letter"]) -> list["_Letter"]:
        """Those that are too large for the topic; all others are acknowledged. Raises BrokerTrouble."""
        answers: list[tuple[_Letter, KafkaError | None]] = []
        try:
            for letter in letters:
                self._produce(letter, lambda failure, letter=letter: answers.append((letter, failure)))  # type: ignore[misc]
        except (BufferError, KafkaException) as error:
            raise BrokerTrouble(f"dead letters of {place}: {error}") from error
        deadline = time.monotonic() + ACKNOWLEDGE_TIMEOUT_S
        while len(answers) < len(letters) and time.monotonic() < deadline:
            self._producer.poll(_POLL_S)
        if missing := len(letters) - len(answers):
            raise BrokerTrouble(f"dead letters of {place}: {missing} not acknowledged")
        return _too_large(place, answers)

    def _produce(self, letter: "_Letter", answer: Callable[[KafkaError | None], None]) -> None:
        """`answer` gets the broker's word, or this client's own that the letter is too large for any broker."""
        try:
            self._producer.produce(
                self._topic,
                letter.value,
                letter.key,
                headers=letter.headers,
                on_delivery=lambda failure, _message: answer(failure),
            )
        except KafkaException as refusal:
            failure: KafkaError = refusal.args[0]
            if failure.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise
            answer(failure)


@dataclass(frozen=True, slots=True)
class _Letter:
    """A dead letter as it is sent."""

    key: str
    value: bytes | None
    about: Mapping[str, bytes]
    original: tuple[Header, ...]

    @property
    def headers(self) -> list[tuple[str, str | bytes | None]]:
        return [*self.about.items(), *((header.name, header.value) for header in self.original)]

    def without_value(self) -> "_Letter":
        left_out = f"{len(self.value or b'')} bytes of value, {len(self.original)} headers"
        return _Letter(self.key, None, {**self.about, LEFT_OUT: left_out.encode()}, ())


def _letter(topic_id: UUID, place: Place, rejection: Rejection) -> _Letter:
    letter = rejection.letter
    about = {
        "tailrace.reason": letter.reason.encode(),
        "tailrace.error": letter.error.encode(),
        "tailrace.topic": letter.topic.encode(),
        "tailrace.partition": str(place.partition).encode(),
        "tailrace.offset": str(rejection.offset).encode(),
        "tailrace.schema_id": str(rejection.schema_id).encode(),
        **({} if letter.key is None else {"tailrace.key": letter.key}),
    }
    return _Letter(f"{topic_id}:{place.partition}:{rejection.offset}", letter.value, about, letter.headers)


def _too_large(place: Place, answers: Iterable[tuple[_Letter, KafkaError | None]]) -> list[_Letter]:
    refused = []
    for letter, failure in answers:
        if failure is None:
            continue
        if failure.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            raise BrokerTrouble(f"dead letters of {place}: {failure}")
        refused.append(letter)
    return refused
