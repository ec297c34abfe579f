"""Which ports the parts listen on: configured ones, the usual ones where they are free, else any that is free."""

import random
import socket

from deploy.local.health import LOOPBACK
from schemas.errors import PartUnreachable

LISTENING = range(10_240, 32_768)
"""Below what Linux gives to connections that go out (`ip_local_port_range`), above the ports of well-known services."""
DRAWS_MAX = 100


def choose_port(part: str, configured: int | None, remembered: int | None, usual: int | None) -> int:
    """The configured port; else the one of the last start, the usual one if there is any, or a free one.

    Raises PartUnreachable where the configured port is taken.
    """
    if configured is not None:
        if not is_free(configured):
            raise taken(part, configured)
        return configured
    preferred = usual if remembered is None else remembered
    return preferred if preferred is not None and is_free(preferred) else free_port()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One that no connection going out is given, so that it is still free when a part comes to listen on it."""
    drawn = random.SystemRandom().sample(LISTENING, DRAWS_MAX)
    port = next((port for port in drawn if is_free(port)), None)
    assert port is not None, f"none of {DRAWS_MAX} ports of {LISTENING} is free"
    return port


def taken(part: str, port: int) -> PartUnreachable:
    name = f"TAILRACE_{part.upper()}_PORT"
    remedy = f"the port is taken by another program; end that, or put another port into {name} (unset: a free one is chosen)"
    return PartUnreachable(f"a place for {part}", f"{LOOPBACK}:{port}", remedy)
