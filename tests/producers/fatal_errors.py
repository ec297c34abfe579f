"""Breaking a Kafka client down as a fatal error of its own does, by the means that librdkafka has for tests."""

import ctypes
from pathlib import Path

import confluent_kafka

from producers.kafka_transport import KafkaTransport

OUT_OF_ORDER_SEQUENCE_NUMBER = 45


def break_down(transport: KafkaTransport) -> None:
    client = transport._producer
    handle = ctypes.c_void_p.from_address(id(client) + object.__basicsize__)  # the first field of its object
    refused = _library().rd_kafka_test_fatal_error(handle, OUT_OF_ORDER_SEQUENCE_NUMBER, b"for a test")
    assert refused == 0, "the client had an error already"


def _library() -> ctypes.CDLL:
    """The one that the client has loaded."""
    mapped = Path("/proc/self/maps").read_text().splitlines()
    path = next(line.split()[-1] for line in mapped if "librdkafka" in line)
    assert Path(confluent_kafka.__file__).parent.parent in Path(path).parents, path
    return ctypes.CDLL(path)
