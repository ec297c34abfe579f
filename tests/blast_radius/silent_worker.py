"""`tailrace serve` with an emitter that takes every event and sends none: what answering alone costs."""

import os

from producers.testing import StubEmitter
from schemas.events import Event
from serving_worker.main import serve


class Silent(StubEmitter):
    """Keeps nothing. Its status is that of an emitter to which nobody has come."""

    def emit(self, event: Event) -> bool:  # noqa: ARG002 - that is its whole point
        return True


if __name__ == "__main__":
    serve(
        {**os.environ, "TAILRACE_HTTP_PORT": "0"},
        lambda url: print(f"serving on {url}", flush=True),
        lambda _settings: Silent(),
    )
