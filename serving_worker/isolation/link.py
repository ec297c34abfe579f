"""The worker's end of the socket to one policy process: a message out, one reply in."""

import asyncio
from typing import cast

from serving_worker.isolation.frames import REPLY_BYTES_MAX, FrameBuffer, Reply, read_reply
from serving_worker.isolation.reasons import Degraded, Unanswered


class Link(asyncio.Protocol):
    """What was not asked for, or cannot be read, ends it. `closed` is done when it has ended, for whatever reason."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = FrameBuffer()
        self._pending: asyncio.Future[Reply] | None = None

    def send(self, message: bytes, reply_bytes_max: int = REPLY_BYTES_MAX) -> asyncio.Future[Reply]:
        """The reply to come; `message` may be empty. Raises Unanswered, here or from the future."""
        self._buffer.bytes_max = reply_bytes_max
        assert self._pending is None, "one question at a time"
        if self._transport is None or self.closed.done():
            raise Unanswered(Degraded.CRASHED, "its process has ended")
        if message:
            self._transport.write(message)
        self._pending = self._loop.create_future()
        self._pending.add_done_callback(_look_at)
        return self._pending

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._buffer.feed(data):
                self._take(read_reply(payload))
        except Unanswered as error:
            self._end(error)

    def connection_lost(self, _error: Exception | None) -> None:
        self._end(Unanswered(Degraded.CRASHED, "its process has ended"))

    def _take(self, reply: Reply) -> None:
        pending, self._pending = self._pending, None
        if pending is None:
            raise Unanswered(Degraded.UNREADABLE, "a reply that nobody asked for")
        if not pending.done():
            pending.set_result(reply)

    def _end(self, error: Unanswered) -> None:
        pending, self._pending = self._pending, None
        if pending is not None and not pending.done():
            pending.set_exception(error)
        if not self.closed.done():
            self.closed.set_result(None)
        self.close()


def _look_at(reply: asyncio.Future[Reply]) -> None:
    """Who asked may have gone on without it: asyncio should not call that an error that nobody has seen."""
    if not reply.cancelled():
        reply.exception()
