"""A request's body: received, decompressed, and split into the statement and the data that follow it.

An insert's data go to a file as they come, and the engine is asked only once the last byte is there: a client that breaks off has
inserted nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.types import Receive

from deploy.local.warehouse_server.compression import Decoder
from deploy.local.warehouse_server.errors import QUERY_IS_TOO_LARGE, refusal
from deploy.local.warehouse_server.statement import INSERT_HEAD_BYTES_MAX, DataInsert, Plain, data_insert, plain

Read = TypeVar("Read")

RECEIVE_SECONDS = 300
STATEMENT_BYTES_MAX = 16 << 20
"""A statement without data may be this long: IN lists of a million ids fit."""
READ_ON_LOOP_BYTES_MAX = 16 << 10
FORM_BYTES_MAX = 64 << 20
_SPOOL_BYTES = 4 << 20


class ClientLeft(Exception):  # noqa: N818 - says what is the case
    """The client closed the connection before its request was whole."""


@dataclass(frozen=True, slots=True)
class Statement:
    parsed: DataInsert | Plain
    head: bytes
    """The statement's text as it came: what the refusals look at."""


async def decoded(receive: Receive, decoder: Decoder, bytes_max: int, count: Callable[[float], None]) -> AsyncIterator[bytes]:
    """The body's chunks; `count` hears their sizes.

    Raises ClientLeft where it breaks off, ServerError where it is too large or not what it is called.
    """
    held, more = 0, True
    while more:
        async with asyncio.timeout(RECEIVE_SECONDS):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = decoder.feed(message.get("body", b""))
        held += len(chunk)
        count(len(chunk))
        if held > bytes_max:
            raise refusal(QUERY_IS_TOO_LARGE, f"The request's body is larger than {bytes_max} bytes, this server's --body-bytes.")
        more = message.get("more_body", False)
        yield chunk
    decoder.end()


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    """A form, in memory. Raises ServerError where it is too large for that."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        if len(held) > FORM_BYTES_MAX:
            raise refusal(QUERY_IS_TOO_LARGE, f"The form is larger than {FORM_BYTES_MAX} bytes.")
    return bytes(held)


async def read_statement(url_query: str, chunks: AsyncIterator[bytes], spool: Path) -> Statement:
    """The statement; an insert's rows go to `spool`. As in ClickHouse the URL's query and the body are one text, of two lines."""
    prefix = url_query.rstrip().encode("utf-8", "surrogateescape")
    head = bytearray(prefix + b"\n" if prefix else b"")
    async for chunk in chunks:
        head += chunk
        if len(head) >= INSERT_HEAD_BYTES_MAX + len(prefix):
            break
    text = bytes(head)
    insert = data_insert(text)
    if insert is not None:
        await _spooled(spool, text[insert.data_start :], chunks)
        return Statement(insert, text[: insert.data_start])
    async for chunk in chunks:
        head += chunk
        if len(head) > STATEMENT_BYTES_MAX:
            raise refusal(QUERY_IS_TOO_LARGE, f"The statement is longer than {STATEMENT_BYTES_MAX} bytes.")
    text = bytes(head)
    return Statement(await off_loop(text, partial(plain, text)), text)


async def off_loop(text: bytes, reading: Callable[[], Read]) -> Read:
    """What `reading` finds in `text`; a long text is read in a thread, so that other clients do not wait for it."""
    return reading() if len(text) <= READ_ON_LOOP_BYTES_MAX else await asyncio.to_thread(reading)


async def _spooled(path: Path, first: bytes, chunks: AsyncIterator[bytes]) -> None:
    """Write `first` and all that follows: large bodies off the event loop."""
    held = bytearray(first)
    with path.open("wb", buffering=0) as file:
        async for chunk in chunks:
            held += chunk
            if len(held) >= _SPOOL_BYTES:
                await asyncio.to_thread(file.write, held)
                held = bytearray()
        file.write(held)
