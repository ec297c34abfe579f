"""Consumed records for the sink's pure rooms."""

from dataclasses import dataclass, field

from confluent_kafka import KafkaError


@dataclass(frozen=True)
class FakeMessage:
    """What confluent_kafka's Message shows of a record."""

    offset_: int
    value_: bytes | None
    kafka_time_ms: int = 1_795_424_805_626
    key_: bytes | None = b"u1"
    headers_: list[tuple[str, bytes | None]] = field(default_factory=list)
    error_: KafkaError | None = None

    def __len__(self) -> int:
        return len(self.value_ or b"")

    def topic(self) -> str:
        return "tailrace.interactions"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.offset_

    def timestamp(self) -> tuple[int, int]:
        return 2, self.kafka_time_ms

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.headers_ or None

    def error(self) -> KafkaError | None:
        return self.error_
