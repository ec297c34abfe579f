"""Asking a part whether it is well. A question ends within HEALTH_TIMEOUT_S, whatever the part does."""

import socket
import struct
import urllib.error
import urllib.request

HEALTH_TIMEOUT_S = 2.0
LOOPBACK = "127.0.0.1"

_API_VERSIONS = 18
_REQUEST_ID = 7


def http_answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def kafka_answers(port: int) -> bool:
    """Whether a broker answers an ApiVersions request, the first that every client sends.

    Source: https://kafka.apache.org/protocol (request header v1, ApiVersions v0)
    """
    request = struct.pack(">hhih", _API_VERSIONS, 0, _REQUEST_ID, -1)
    try:
        with socket.create_connection((LOOPBACK, port), HEALTH_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return _response_id(connection) == _REQUEST_ID
    except OSError:
        return False


def _response_id(connection: socket.socket) -> int | None:
    """The correlation id of the response, None where the connection ends before it."""
    with connection.makefile("rb") as answer:
        head = answer.read(8)
    return struct.unpack(">ii", head)[1] if len(head) == 8 else None
