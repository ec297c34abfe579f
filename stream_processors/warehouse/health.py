"""The sink's HTTP door: `/metrics` for Prometheus, `/health` for whoever restarts or pages. Reads, and changes nothing.

`/health` answers 200 while the broker answers, the loop comes round and every partition gets on, else 503; the body says what is
stuck, for how long and why.
"""

import json
from collections.abc import Callable, Iterable
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler

from stream_processors.warehouse.records import Standing

STUCK_S = 30.0
"""So long without progress, with something to do, is stuck."""


def verdict(standings: Iterable[Standing], loop_silent_s: float, broker_trouble: str | None) -> dict[str, Any]:
    """What `/health` says."""
    stuck = [standing for standing in standings if standing.waiting_s > STUCK_S or standing.stopped]
    return {
        "ready": not stuck and loop_silent_s <= STUCK_S and broker_trouble is None,
        "broker": broker_trouble or "answers",
        "loop_silent_s": round(loop_silent_s, 1),
        "stuck": [
            {
                "topic": standing.place.topic,
                "partition": standing.place.partition,
                "waiting_s": round(standing.waiting_s, 1),
                "why": standing.trouble,
            }
            for standing in stuck
        ],
    }


class Door:
    """Serves both until it is closed."""

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, health: Callable[[], dict[str, Any]]) -> None:
        self._server = ThreadingHTTPServer(address, _handler(registry, health))
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, name="tailrace-sink-door", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: CollectorRegistry, health: Callable[[], dict[str, Any]]) -> type[MetricsHandler]:
    class Handler(MetricsHandler.factory(registry)):  # type: ignore[misc]  # a class made at run time
        def do_GET(self) -> None:  # noqa: N802 - its name in http.server
            if self.path.split("?")[0] == "/health":
                self._answer_health()
            else:
                super().do_GET()

        def _answer_health(self) -> None:
            found = health()
            body = json.dumps(found).encode()
            self.send_response(200 if found["ready"] else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
