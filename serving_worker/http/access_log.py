"""One line a request, without anything about a person: no unit, no address, no query, no body.

    {"route": "recommendations", "status": 200, "ms": 1.3, "bytes_in": 61, "bytes_out": 154, "key": "shop", "request": "0190…"}

`key` is the name of the API key; `request` the id under which the answer was emitted.
"""

import logging
from dataclasses import dataclass

import msgspec

logger = logging.getLogger("tailrace.access")


@dataclass(slots=True)
class Call:
    """What is noted of a request while it is answered."""

    bytes_in: int = 0
    key: str = ""
    request_id: str = ""


def tell(route: str, status: int, took_s: float, call: Call, bytes_out: int) -> None:
    """Costs nothing while the logger is off."""
    if logger.isEnabledFor(logging.INFO):
        line = {
            "route": route,
            "status": status,
            "ms": round(took_s * 1_000, 3),
            "bytes_in": call.bytes_in,
            "bytes_out": bytes_out,
            "key": call.key,
            "request": call.request_id,
        }
        logger.info(msgspec.json.encode(line).decode())
