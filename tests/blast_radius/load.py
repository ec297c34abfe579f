"""Open-loop load on a worker: requests are due at a constant rate, whether or not earlier ones have been answered.

    python -m tests.blast_radius.load URL REQUESTS_PER_S SECONDS FIRST

A latency counts from when its request was due, so a worker that stalls is charged for everybody who came meanwhile (no
coordinated omission). Request number n, counted from FIRST, has the same unit and the same idempotency key in every run: with one
seed the same answer is due, byte for byte. Prints a Block as JSON.
"""

import asyncio
import gc
import hashlib
import json
import selectors
import sys
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import cast
from urllib.parse import urlsplit

from tests.blast_radius.witness import Spell, Witness, meets

CONNECTIONS_MAX = 256
UNITS = 5_000
ANSWER_LIMIT_S = 15.0
"""A request that is not answered by then has failed."""
LEAD_S = 0.2
DIGEST_BYTES = 8
NONE = "none"
"""The status of a request without an answer."""


@dataclass(frozen=True, slots=True)
class Block:
    """By request, in their order: its latency, null where there was no answer; its status, NONE there; a digest of its answer."""

    latencies_ms: Sequence[float | None]
    statuses: Sequence[str]
    digests: Sequence[str]
    late_ms_max: float
    """By how much this process sent a request too late: with more than a few ms, its figures are its own."""
    stolen_share: float = 0.0
    """Of the worker's core, what the machine's host gave to others: with more than a little, the figures are the host's."""
    slowed: Sequence[bool] = ()
    """By request, whether the machine itself was slow for a moment while it was due; empty where nobody looked."""

    @property
    def calm_ms(self) -> list[float]:
        """The latencies of those that were answered by a machine as fast as usual; of all, where it never was."""
        slowed = self.slowed or [False] * len(self.latencies_ms)
        answered = [(latency, slow) for latency, slow in zip(self.latencies_ms, slowed, strict=True) if latency is not None]
        return [latency for latency, slow in answered if not slow] or [latency for latency, _ in answered]

    @property
    def slowed_share(self) -> float:
        return sum(self.slowed) / len(self.latencies_ms)

    @property
    def failed(self) -> int:
        return sum(status != "200" for status in self.statuses)

    def only(self, places: Collection[int]) -> "Block":
        """The block as far as these requests go."""
        kept = [place for place in range(len(self.statuses)) if place in places]
        return Block(
            [self.latencies_ms[place] for place in kept],
            [self.statuses[place] for place in kept],
            [self.digests[place] for place in kept],
            self.late_ms_max,
            self.stolen_share,
            [self.slowed[place] for place in kept] if self.slowed else (),
        )


@dataclass(slots=True)
class _Answered:
    """What came of each request, by its place."""

    latencies_ms: list[float | None]
    statuses: list[str]
    bodies: list[bytes]
    late_ms_max: float = 0.0
    left: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, place: int, due_s: float, now_s: float, status: str, body: bytes) -> None:
        if status != NONE:
            self.latencies_ms[place] = round((now_s - due_s) * 1_000, 3)
        self.statuses[place], self.bodies[place] = status, body
        self.left -= 1
        if not self.left:
            self.done.set()


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._asked: tuple[int, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.free(self)

    def ask(self, place: int, due_s: float, request: bytes) -> None:
        assert self._transport is not None, "asked only once it is made"
        self._asked = (place, due_s)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < _content_length(head):
            return
        self._end(head.split(b" ", 2)[1].decode(), rest)
        self._buffer = b""
        self._load.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._load.lost(self)
        self._end(NONE, b"")

    def _end(self, status: str, body: bytes) -> None:
        if self._asked is not None:
            (place, due_s), self._asked = self._asked, None
            self._load.answered.note(place, due_s, self._load.loop.time(), status, body)


class _Load:
    def __init__(self, url: str, requests: Sequence[bytes], rate: float) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._requests, self._rate = requests, rate
        self.loop = asyncio.get_running_loop()
        count = len(requests)
        self.answered = _Answered([None] * count, [NONE] * count, [b""] * count, left=count)
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self) -> Block:
        witness = Witness(self.loop.time)
        watching = self.loop.create_task(witness.watch())
        began = self.loop.time() + LEAD_S
        for place in range(len(self._requests)):
            due_s = began + place / self._rate
            if (wait_s := due_s - self.loop.time()) > 0:
                await asyncio.sleep(wait_s)
            self.answered.late_ms_max = max(self.answered.late_ms_max, (self.loop.time() - due_s) * 1_000)
            self._waiting.append((place, due_s))
            self._send()
        try:
            await asyncio.wait_for(self.answered.done.wait(), ANSWER_LIMIT_S)
        except TimeoutError:
            print(f"{self.answered.left} requests were not answered", file=sys.stderr)
        watching.cancel()
        return self._block(began, witness.spells())

    def free(self, connection: _Connection) -> None:
        self._idle.append(connection)
        self._send()

    def lost(self, connection: _Connection) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    def _send(self) -> None:
        while self._waiting and self._idle:
            place, due_s = self._waiting.popleft()
            self._idle.popleft().ask(place, due_s, self._requests[place])
        if self._waiting and self._open + len(self._opening) < CONNECTIONS_MAX:
            task = self.loop.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            await self.loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError:
            place, due_s = self._waiting.popleft() if self._waiting else (None, 0.0)
            if place is not None:
                self.answered.note(place, due_s, self.loop.time(), NONE, b"")
            return
        self._open += 1

    def _block(self, began: float, spells: Sequence[Spell]) -> Block:
        due = [began + place / self._rate for place in range(len(self._requests))]
        slowed = [
            meets(spells, due_s, due_s + (latency_ms or 0.0) / 1_000)
            for due_s, latency_ms in zip(due, self.answered.latencies_ms, strict=True)
        ]
        digests = [hashlib.blake2b(body, digest_size=DIGEST_BYTES).hexdigest() for body in self.answered.bodies]
        late_ms = round(self.answered.late_ms_max, 3)
        return Block(self.answered.latencies_ms, self.answered.statuses, digests, late_ms, slowed=slowed)


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)


def unit_of(number: int) -> str:
    return f"unit-{number % UNITS}"


def request_bytes(number: int, host: str, slots: int) -> bytes:
    """Request `number` of all runs, for `slots` items of the surface `home`."""
    ask = {"unit_id": unit_of(number), "surface": "home", "k": slots, "idempotency_key": f"call-{number}"}
    body = json.dumps(ask).encode()
    lines = (
        "POST /v1/recommendations HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def main() -> None:
    url, rate, seconds, first = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    host = urlsplit(url).netloc
    requests = [request_bytes(first + number, host, 10) for number in range(int(rate * seconds))]

    async def load() -> Block:
        return await _Load(url, requests, rate).run()

    gc.disable()
    with asyncio.Runner(loop_factory=_exact_loop) as runner:
        print(json.dumps(asdict(runner.run(load()))))


def _exact_loop() -> asyncio.AbstractEventLoop:
    """Its clock and timers go by the microsecond: uvloop's and epoll's go by the millisecond, which is what an answer takes."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    main()
