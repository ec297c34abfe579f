"""Limits on a request's head: who sends none, or half of one, would hold the connection for ever; who sends no end, memory.

uvicorn limits how long a connection is idle after an answer, and the interface how long a body takes. This limit runs from the
connection's beginning, or from the first byte that comes while no request is under way, to the end of a head. A head that comes
in one piece on a connection that is kept costs no timer. The parser keeps a header until it ends, however long it is.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES_MAX = 65_536
"""Of a head that is still without its end."""


class HeadTimedProtocol(HttpToolsProtocol):
    """One connection. It is closed, without an answer, where a head takes longer than `head_timeout_s` or is too large."""

    def __init__(self, *, head_timeout_s: float, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._head_timeout_s = head_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn's type does not say that it is None before the first request
        last: RequestResponseCycle | None = vars(self)["cycle"]
        if self._timer is None and last is not None and last.response_complete:
            self._await_head()
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.close()

    def on_headers_complete(self) -> None:
        self._forget_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self._head_timeout_s, self.transport.close)

    def _forget_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._head_bytes = None, 0
