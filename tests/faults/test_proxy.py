"""The fault proxy before a warehouse that only counts: each effect does what it says, and nothing happens unasked."""

import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest

from tests.faults.plan import Effect, Fault, Moment
from tests.faults.proxy import NOT_ENOUGH_SPACE, FaultProxy
from tests.faults.statements import Step
from tests.faults.strikes import Strikes
from tests.waiting import eventually

LIMIT_S = 10.0
BODY = b"x" * 10_000
INSERT = "INSERT INTO interactions (_envelope) FORMAT Avro"


@dataclass
class Counting:
    """A warehouse that takes everything. `bodies` are those that came whole, `begun` counts the others too."""

    bodies: list[bytes] = field(default_factory=list)
    begun: int = 0
    port: int = 0


@pytest.fixture
def warehouse() -> Iterator[Counting]:
    counting = Counting()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def do_POST(self) -> None:
            counting.begun += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) == int(self.headers["Content-Length"]):
                counting.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    counting.port = int(server.server_address[1])
    yield counting
    server.shutdown()
    server.server_close()


@dataclass
class Client:
    """A sink's connection to its port of the proxy."""

    proxy: FaultProxy
    port: int
    acts: list[tuple[Effect, str]]

    def post(self, statement: str = INSERT, comment: str = "tailrace t:0") -> tuple[int, str | None]:
        """The status and ClickHouse's code; status 0 where the connection was closed without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request("POST", "/?" + urlencode({"query": statement, "log_comment": comment}), BODY)
            answer = connection.getresponse()
            answer.read()
        except (http.client.HTTPException, OSError):
            return 0, None
        finally:
            connection.close()
        return answer.status, answer.headers.get("X-ClickHouse-Exception-Code")


@pytest.fixture
def client(warehouse: Counting) -> Iterator[Client]:
    proxy = FaultProxy("127.0.0.1", warehouse.port, Strikes())
    acts: list[tuple[Effect, str]] = []
    proxy.act = lambda fault, sink: acts.append((fault.effect, sink))
    yield Client(proxy, proxy.open("sink-1"), acts)
    proxy.close()


def fault(effect: Effect, moment: Moment, nth: int = 1, seconds: float = 0.0) -> Fault:
    return Fault("test", effect, Step.INSERT, moment, nth, seconds)


def test_without_a_fault_a_request_and_its_answer_go_through_once(client: Client, warehouse: Counting) -> None:
    assert client.post() == (200, None)
    assert warehouse.bodies == [BODY]
    assert [passed.step for passed in client.proxy.passed] == [Step.INSERT]


def test_a_fault_meets_the_nth_request_of_its_step_and_no_other(client: Client, warehouse: Counting) -> None:
    client.proxy.strikes.arm(fault(Effect.REFUSE, Moment.BEFORE, nth=2))

    assert client.post("SELECT 1") == (200, None)
    assert [client.post()[0] for _ in range(3)] == [200, 500, 200]
    assert len(warehouse.bodies) == 3


@pytest.mark.parametrize(
    ("effect", "moment", "answer", "whole"),
    [
        (Effect.REFUSE, Moment.BEFORE, (500, None), 0),
        (Effect.REFUSE, Moment.APPLIED, (500, None), 1),
        (Effect.NO_SPACE, Moment.BEFORE, (500, str(NOT_ENOUGH_SPACE)), 0),
        (Effect.DROP, Moment.BEFORE, (0, None), 0),
        (Effect.DROP, Moment.MIDWAY, (0, None), 0),
        (Effect.DROP, Moment.RUNNING, (0, None), 1),
        (Effect.DROP, Moment.APPLIED, (0, None), 1),
        (Effect.REPEAT, Moment.BEFORE, (200, None), 2),
        (Effect.HANG, Moment.BEFORE, (200, None), 1),
        (Effect.HANG, Moment.APPLIED, (200, None), 1),
    ],
)
def test_every_effect_on_an_answer(
    client: Client, warehouse: Counting, effect: Effect, moment: Moment, answer: tuple[int, str | None], whole: int
) -> None:
    armed = client.proxy.strikes.arm(fault(effect, moment, seconds=0.05))

    assert client.post() == answer
    assert armed.struck.wait(LIMIT_S)
    assert eventually(lambda: client.proxy.held == 0, LIMIT_S)
    assert warehouse.bodies == [BODY] * whole
    assert client.acts == []


@pytest.mark.parametrize(
    ("moment", "seconds", "answer", "upstream"),
    [
        (Moment.BEFORE, 0.0, 0, (0, 0)),
        (Moment.BEFORE, 0.05, 200, (1, 1)),
        (Moment.MIDWAY, 0.0, 0, (1, 0)),
        (Moment.APPLIED, 0.0, 0, (1, 1)),
        (Moment.ANSWERED, 0.0, 200, (1, 1)),
    ],
)
def test_a_kill_happens_at_its_moment(
    client: Client, warehouse: Counting, moment: Moment, seconds: float, answer: int, upstream: tuple[int, int]
) -> None:
    """Nobody dies here, so that what is said to a dead sink can be heard."""
    armed = client.proxy.strikes.arm(fault(Effect.KILL_SINK, moment, seconds=seconds))

    status, _ = client.post()

    assert armed.struck.wait(LIMIT_S)
    assert client.acts == [(Effect.KILL_SINK, "sink-1")]
    assert armed.by == "sink-1"
    assert eventually(lambda: client.proxy.held == 0, LIMIT_S)
    assert eventually(lambda: (warehouse.begun, len(warehouse.bodies)) == upstream, LIMIT_S)
    assert status == answer


def test_a_sink_that_is_stopped_before_it_hears_finds_the_answer_when_it_wakes(client: Client, warehouse: Counting) -> None:
    client.proxy.strikes.arm(fault(Effect.STOP_SINK, Moment.APPLIED))

    assert client.post() == (200, None)
    assert client.acts == [(Effect.STOP_SINK, "sink-1")]
    assert warehouse.bodies == [BODY]


def test_a_late_post_waits_for_an_insert_of_the_same_partition(client: Client, warehouse: Counting) -> None:
    armed = client.proxy.strikes.arm(fault(Effect.KILL_SINK, Moment.LATE))
    zombie = threading.Thread(target=client.post, daemon=True)
    zombie.start()
    assert armed.struck.wait(LIMIT_S)

    client.post(comment="tailrace t:1")
    assert eventually(lambda: client.proxy.held == 1, LIMIT_S)
    assert len(warehouse.bodies) == 1
    client.post()

    zombie.join(LIMIT_S)
    assert not zombie.is_alive()
    assert len(warehouse.bodies) == 3
