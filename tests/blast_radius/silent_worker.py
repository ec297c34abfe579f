"""`tailrace serve` with an emitter that takes every event and sends none: what answering alone costs."""

import os
from typing import cast

from producers.emitter import Emitter, EmitterStatus
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from schemas.events import Event
from serving_worker.main import serve
from tests.producers.event_samples import KnownSchemaIds


class Silent:
    """Keeps nothing. Its status is that of an emitter to which nobody has come."""

    def __init__(self) -> None:
        self._idle = Emitter(MemoryTransport(), KnownSchemaIds(), now_us=now_us, new_id=new_id)

    def emit(self, _event: Event) -> bool:
        return True

    def status(self) -> EmitterStatus:
        return self._idle.status()

    def close(self, timeout_s: float) -> EmitterStatus:
        return self._idle.close(timeout_s)


def silent_emitter() -> Emitter:
    return cast("Emitter", Silent())


if __name__ == "__main__":
    serve(
        {**os.environ, "TAILRACE_HTTP_PORT": "0"},
        lambda url: print(f"serving on {url}", flush=True),
        lambda _settings: silent_emitter(),
    )
