"""The HTTP server: its socket, its processes, and how it ends.

On SIGTERM a process first says that it is unready and goes on answering for a while, so that whoever balances the load can turn
away; then it stops accepting, finishes what it has, and the application closes. A later signal skips the wait; one that comes at
the same time is the first one over again, from a supervisor that tells the whole group and a parent that tells its children.
"""

import asyncio
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from schemas.errors import PartUnreachable
from serving_worker.http.head_timeout import HeadTimedProtocol
from serving_worker.http.supervisor import Supervisor

BACKLOG_CONNECTIONS = 2_048
ECHO_S = 1.0
GC_ALLOCATIONS = 50_000
"""So many more objects than before, and the young ones are looked through."""

Handler = Callable[[int, FrameType | None], object]


def listen(host: str, port: int) -> socket.socket:
    """Raises PartUnreachable where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; with it an answer takes 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        listener.close()
        remedy = f"{error.strerror}; name another with TAILRACE_HTTP_HOST and TAILRACE_HTTP_PORT (0 takes a free one)"
        raise PartUnreachable("the worker cannot listen", f"{host}:{port}", remedy) from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """For a request's head to be there, and for the requests that are under way at the end."""

    head_timeout_s: float
    shutdown_s: float


def run(app: ASGIApp, listener: socket.socket, limits: ServerLimits) -> None:
    """Answer in this process until SIGTERM or SIGINT."""
    with _signals_end_quietly():
        uvicorn.Server(_config(app, 1, limits)).run(sockets=[listener])


def run_fleet(new_app: Callable[[], ASGIApp], listener: socket.socket, workers: int, limits: ServerLimits) -> None:
    """Answer in processes that each make an app, until SIGTERM or SIGINT. A dead one is started again; where none comes up it
    exits, as a process does that is alone.
    """
    supervisor = Supervisor(_config(new_app, workers, limits), listener)
    supervisor.run()
    if supervisor.failed:
        sys.exit(STARTUP_FAILURE)


def leave_requests_to_reference_counts() -> None:
    """For a process that does nothing but answer, once it has loaded what it serves: the collector passes over all of that from
    here on, and comes rarely. What requests leave behind is in few cycles, and its walks are pauses that all of them wait for.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)


@contextmanager
def draining(drain_s: float, begin: Callable[[], None]) -> Iterator[None]:
    """Within it the first SIGTERM calls `begin`, and reaches the server after `drain_s`. For the event loop's own thread."""
    loop = asyncio.get_running_loop()
    server = signal.getsignal(signal.SIGTERM)
    if not callable(server):  # nobody would end by the signal: the application runs under a test client
        yield
        return
    began_s: float | None = None

    def drain(number: int, frame: FrameType | None) -> None:
        nonlocal began_s
        now_s = time.monotonic()
        if not drain_s or (began_s is not None and now_s - began_s > ECHO_S):
            begin()
            server(number, frame)
        elif began_s is None:
            began_s = now_s
            loop.call_soon_threadsafe(_drain)

    def _drain() -> None:
        begin()
        loop.call_later(drain_s, server, signal.SIGTERM, None)

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, server)


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """The server raises a signal that ended it once more when it is done; the process should then end in good order."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _config(app: ASGIApp | Callable[[], ASGIApp], workers: int, limits: ServerLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=workers > 1,
        http=partial(HeadTimedProtocol, head_timeout_s=limits.head_timeout_s),  # type: ignore[arg-type] # called like the class
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        workers=workers,
        timeout_graceful_shutdown=max(1, int(limits.shutdown_s)),
    )
