"""The fault proxy: stands between the sinks and the warehouse, knows each request by its statement, and does to it what is armed.

Every sink has a port of its own here, so that a fault knows whose request it meets. A request is read whole before anything is
done; without a fault it goes on unchanged, once, and so does its answer. What a killed sink had posted whole and was held here is
forwarded late, as a network does that has buffers.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, urlsplit

from tests.faults.plan import Effect, Fault, Moment
from tests.faults.statements import Step, step_of
from tests.faults.strikes import Armed, Strikes
from tests.waiting import eventually

ANSWER_TIMEOUT_S = 180.0
SUCCESSOR_LIMIT_S = 20.0
LATEST = 500
"""An insert that is waited for is among so many last requests."""
NOT_ENOUGH_SPACE = 243
_KILLS = frozenset({Effect.KILL_SINK, Effect.KILL_WAREHOUSE, Effect.KILL_BOTH, Effect.STOP_SINK})
_HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})

Act = Callable[[Fault, str], None]
"""Carries out the part of a fault that concerns processes: (fault, the sink's name)."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes
    step: Step
    comment: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Passed:
    """A request whose clean answer was given back: when (monotonic seconds), of which step, with which log_comment."""

    at_s: float
    step: Step
    comment: str


class FaultProxy:
    """`passed` are the requests that went well, in order."""

    def __init__(self, host: str, port: int, strikes: Strikes) -> None:
        self.strikes = strikes
        self.act: Act = _nobody
        self.passed: list[Passed] = []
        self.closing = threading.Event()
        self._upstream = (host, port)
        self._servers: list[ThreadingHTTPServer] = []
        self._lock = threading.Lock()
        self._held = 0

    def open(self, sink: str) -> int:
        """A port for `sink`."""
        handler = type("Handler", (_Handler,), {"proxy": self, "sink": sink})
        server = _Server(("127.0.0.1", 0), cast("type[BaseHTTPRequestHandler]", handler))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        return int(server.server_address[1])

    def close(self) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1

    @property
    def held(self) -> int:
        """Requests that are here: of sinks that wait for their answer, and of such as are long dead."""
        return self._held

    def note(self, request: Request, answer: Answer) -> None:
        if answer.status == 200:
            self.passed.append(Passed(time.monotonic(), request.step, request.comment))

    def await_successor(self, request: Request) -> None:
        """Until somebody else's insert of the same partition has gone well, or SUCCESSOR_LIMIT_S are over."""
        now_s = time.monotonic()

        def has_inserted() -> bool:
            return any(passed.comment == request.comment and passed.at_s > now_s for passed in self.passed[-LATEST:])

        eventually(has_inserted, SUCCESSOR_LIMIT_S)

    def forward(self, request: Request) -> Answer:
        """The warehouse's answer. Raises OSError and HTTPException."""
        with closing(HTTPConnection(*self._upstream, timeout=ANSWER_TIMEOUT_S)) as upstream:
            upstream.request("POST", request.path, request.body, request.headers)
            response = upstream.getresponse()
            body = response.read()
            return Answer(response.status, _kept(dict(response.getheaders())), body)

    def forward_half(self, request: Request, then: Callable[[], None]) -> None:
        """The head and half of the body; after `then` the connection ends. Raises OSError."""
        with closing(HTTPConnection(*self._upstream, timeout=ANSWER_TIMEOUT_S)) as upstream:
            upstream.putrequest("POST", request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in {**request.headers, "Content-Length": str(len(request.body))}.items():
                upstream.putheader(name, value)
            upstream.endheaders(request.body[: len(request.body) // 2])
            then()


def _nobody(_fault: Fault, sink: str) -> None:
    raise AssertionError(f"whoever opens a port says what a fault does to {sink}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A sink that was killed leaves broken connections: that is what we are here for."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of one sink."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy
    sink: str

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silence: the plan says what happens here."""

    def do_POST(self) -> None:
        with self.proxy.busy():
            self._answer(self._read())

    def _answer(self, request: Request) -> None:
        armed = self.proxy.strikes.meet(request.step, self.sink)
        try:
            if armed is None:
                self._relay(request, self.proxy.forward(request))
            else:
                self._strike(request, armed)
        except (OSError, HTTPException):  # the warehouse or the sink has gone: the other side sees a closed connection
            self.close_connection = True
        finally:
            if armed is not None:
                armed.struck.set()

    def _read(self) -> Request:
        body = (
            self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(int(self.headers["Content-Length"] or 0))
        )
        arguments = parse_qs(urlsplit(self.path).query)
        statement = arguments.get("query", [body[:4096].decode(errors="replace")])[0]
        comment = arguments.get("log_comment", [""])[0]
        return Request(self.path, _kept(dict(self.headers.items())), body, step_of(statement), comment)

    def _chunks(self) -> bytes:
        parts = []
        while (size := int(self.rfile.readline().split(b";")[0], 16)) > 0:
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _relay(self, request: Request, answer: Answer) -> None:
        self.proxy.note(request, answer)
        self._give(answer)

    def _give(self, answer: Answer) -> None:
        head = [f"HTTP/1.1 {answer.status} x", *(f"{name}: {value}" for name, value in answer.headers.items())]
        head.append(f"Content-Length: {len(answer.body)}")
        self.wfile.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + answer.body)

    def _hang_up(self) -> None:
        """At once, and in both directions."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _strike(self, request: Request, armed: Armed) -> None:
        fault = armed.fault
        if fault.effect in _KILLS:
            self._strike_processes(request, armed)
        elif fault.effect is Effect.REPEAT:
            self.proxy.forward(request)
            self._relay(request, self.proxy.forward(request))
        elif fault.effect is Effect.HANG:
            self._hold(request, armed)
        else:
            self._strike_answer(request, fault)

    def _strike_processes(self, request: Request, armed: Armed) -> None:
        """Kill or stop at the fault's moment."""
        fault = armed.fault

        def act() -> None:
            self.proxy.act(fault, self.sink)
            armed.struck.set()

        if fault.moment is Moment.LATE:
            act()
            self.proxy.await_successor(request)
            self._relay(request, self.proxy.forward(request))
        elif fault.moment is Moment.BEFORE:
            act()
            if fault.seconds:
                self.proxy.closing.wait(fault.seconds)
                self._relay(request, self.proxy.forward(request))
            else:
                self._hang_up()
        elif fault.moment is Moment.MIDWAY:
            self.proxy.forward_half(request, act)
            self._hang_up()
        else:
            self._strike_after(request, fault, act)

    def _strike_after(self, request: Request, fault: Fault, act: Callable[[], None]) -> None:
        """The answer of a warehouse that was killed before it gave it is not heard; a stopped sink finds it when it wakes."""
        answer = self.proxy.forward(request)
        if fault.moment is Moment.ANSWERED:
            self._relay(request, answer)
            act()
            return
        act()
        if fault.effect is Effect.STOP_SINK:
            self._give(answer)
        else:
            self._hang_up()

    def _hold(self, request: Request, armed: Armed) -> None:
        """The warehouse hangs: before it has the request, or with the answer ready."""
        fault = armed.fault
        armed.struck.set()
        if fault.moment is Moment.BEFORE:
            self.proxy.closing.wait(fault.seconds)
            self._relay(request, self.proxy.forward(request))
        else:
            answer = self.proxy.forward(request)
            self.proxy.closing.wait(fault.seconds)
            self._relay(request, answer)

    def _strike_answer(self, request: Request, fault: Fault) -> None:
        """Another answer than the warehouse's, or none, with or without the request having taken effect."""
        if fault.moment is Moment.RUNNING:
            self._hang_up()
        if fault.moment is Moment.MIDWAY:
            self.proxy.forward_half(request, lambda: None)
        elif fault.moment is not Moment.BEFORE:
            self.proxy.forward(request)
        if fault.effect is Effect.DROP:
            if not self.close_connection:
                self._hang_up()
        elif fault.effect is Effect.NO_SPACE:
            text = f"Code: {NOT_ENOUGH_SPACE}. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)"
            self._give(Answer(500, {"X-ClickHouse-Exception-Code": str(NOT_ENOUGH_SPACE)}, text.encode()))
        else:
            self._give(Answer(500, {}, b"the proxy says 500"))


def _kept(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_HEADERS}
