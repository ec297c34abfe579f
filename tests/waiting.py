"""Waiting for what another process or thread brings about."""

import threading
import time
from collections.abc import Callable

_POLL_S = 0.01


def eventually(holds: Callable[[], bool], limit_s: float) -> bool:
    """Whether `holds` within `limit_s`; asked again and again, and once more at the end."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if holds():
            return True
        threading.Event().wait(_POLL_S)
    return holds()
