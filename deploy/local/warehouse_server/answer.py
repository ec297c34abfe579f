"""What goes back to the client: headers, a result whole or in a stream, an error, an error in mid-stream."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Send

from deploy.local.warehouse_server.compression import Encoder, encoder
from deploy.local.warehouse_server.errors import ServerError
from deploy.local.warehouse_server.metrics import ServerMetrics
from deploy.local.warehouse_server.native_revision import RevisedBlocks

SEND_SECONDS = 300
SERVER_NAME = "tailrace"
_INLINE_BYTES = 1 << 16
"""Compressing more than this happens off the event loop."""
_EXCEPTION = "__exception__"

_CONTENT_TYPES = {
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "native": "application/octet-stream",
    "parquet": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "avro": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
}


def content_type(format_name: str) -> str:
    known = _CONTENT_TYPES.get(format_name.lower())
    if known is None and format_name.lower().startswith("json"):
        return "application/json; charset=UTF-8"
    return known or "text/plain; charset=UTF-8"


@dataclass(slots=True)
class Answer:
    """One response. Started at most once."""

    send: Send
    version: str
    metrics: ServerMetrics
    headers: dict[str, str]
    encoding: str | None = None
    revised: bool = False
    """Native blocks are to be written in the later dialect of native_revision.py."""
    started: bool = False
    _encoder: Encoder | None = None
    _blocks: RevisedBlocks | None = None
    _tag: str = ""

    async def whole(self, body: bytes, extra: Mapping[str, str]) -> None:
        """A result that is all here."""
        if self.revised:
            blocks = RevisedBlocks()
            body = await _off_loop(blocks, body) + blocks.end()
        if self.encoding and body:
            stream = encoder(self.encoding)
            self.headers["Content-Encoding"] = self.encoding
            body = await _off_loop(stream, body) + stream.end()
        await self._start(200, {**extra, "Content-Length": str(len(body))})
        await self._body(body, more=False)

    async def begin_stream(self, extra: Mapping[str, str]) -> None:
        self._tag = secrets.token_hex(8)
        self._encoder = encoder(self.encoding)
        self._blocks = RevisedBlocks() if self.revised else None
        if self.encoding:
            self.headers["Content-Encoding"] = self.encoding
        await self._start(200, {**extra, "X-ClickHouse-Exception-Tag": self._tag})

    async def stream(self, part: bytes) -> None:
        assert self._encoder is not None
        if self._blocks is not None:
            part = await _off_loop(self._blocks, part)
        if encoded := await _off_loop(self._encoder, part):
            await self._body(encoded, more=True)

    async def end_stream(self) -> None:
        assert self._encoder is not None
        last = self._encoder.feed(self._blocks.end()) if self._blocks is not None else b""
        await self._body(last + self._encoder.end(), more=False)

    async def break_stream(self, error: ServerError) -> None:
        """ClickHouse's marked exception block, and no end after it: the HTTP server closes the connection of an answer that its
        application leaves unfinished, so that no client takes what came for the whole.
        """
        assert self._encoder is not None
        message = f"{error.text} (version {self.version})\n"
        block = f"\r\n{_EXCEPTION}\r\n{self._tag}\r\n{message}{len(message.encode())} {self._tag}\r\n{_EXCEPTION}\r\n"
        await self._body(self._encoder.feed(block.encode()) + self._encoder.end(), more=True)

    async def error(self, error: ServerError) -> None:
        body = f"{error.text} (version {self.version})\n".encode()
        extra = {
            "X-ClickHouse-Exception-Code": str(error.code),
            "Content-Length": str(len(body)),
            "Content-Type": content_type(""),
        }
        if error.http_status == 401:
            extra["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        self.headers.pop("Content-Encoding", None)
        await self._start(error.http_status, extra)
        await self._body(body, more=False)

    async def _start(self, status: int, extra: Mapping[str, str]) -> None:
        self.started = True
        headers = [
            (name.lower().encode(), value.encode("latin-1", "replace")) for name, value in {**self.headers, **extra}.items()
        ]
        await self._sent({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        self.metrics.sent_bytes.inc(len(body))
        await self._sent({"type": "http.response.body", "body": body, "more_body": more})

    async def _sent(self, message: dict[str, object]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self.send(message)


async def _off_loop(stream: Encoder | RevisedBlocks, part: bytes) -> bytes:
    if len(part) <= _INLINE_BYTES:
        return stream.feed(part)
    return await asyncio.to_thread(stream.feed, part)
