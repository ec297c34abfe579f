"""One query from its request to the last byte of its answer."""

import asyncio
import mmap
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from uuid import UUID

from starlette.requests import Request
from starlette.types import Receive

from deploy.local.warehouse_server.access import authenticated
from deploy.local.warehouse_server.answer import Answer, content_type
from deploy.local.warehouse_server.body import Statement, decoded, off_loop, read_statement, whole
from deploy.local.warehouse_server.compression import chosen, decoder
from deploy.local.warehouse_server.config import ServerConfig
from deploy.local.warehouse_server.engine import Engine, Outcome
from deploy.local.warehouse_server.errors import ServerError
from deploy.local.warehouse_server.form import Form, form, is_form, table_definition
from deploy.local.warehouse_server.metrics import ServerMetrics
from deploy.local.warehouse_server.native_revision import CUSTOM_SERIALIZATION_REVISION
from deploy.local.warehouse_server.query import Query, query_of, summary
from deploy.local.warehouse_server.refusals import refuse, refuse_values
from deploy.local.warehouse_server.result_pipe import READ_BYTES, ResultPipe
from deploy.local.warehouse_server.run import Place, run_insert, run_plain
from deploy.local.warehouse_server.sessions import Sessions
from deploy.local.warehouse_server.statement import DataInsert, Plain
from deploy.local.warehouse_server.workers import Workers

BUFFERED_BYTES = 1 << 20
"""An answer's first bytes are held back until so many are there: an error before that still has a status of its own."""
GATHERED_IN_MEMORY_BYTES = 16 << 20
"""Of an answer that its client wants whole; what is more goes to a file."""
EVALUATING = frozenset({"values", "mysqldump"})
"""Input formats whose fields may be expressions."""
CANCEL_INTERVAL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Server:
    """What all requests share."""

    config: ServerConfig
    engine: Engine
    workers: Workers
    metrics: ServerMetrics
    transit: Path
    """Where bodies and pipes live for as long as their requests."""
    sessions: Sessions
    new_id: Callable[[], UUID]


@dataclass(slots=True)
class Exchange:
    server: Server
    request: Request
    receive: Receive
    answer: Answer
    kind: str = "none"
    """insert or read, once it is known."""
    failed: bool = False
    """The result broke off in mid-stream."""
    _abandoned: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Raises ServerError while nothing has been answered; ClientLeft where the request never became whole."""
        headers, arguments = self.request.headers, dict(self.request.query_params)
        user = authenticated(headers, arguments, self.server.config.passwords)
        query_id = arguments.get("query_id") or str(self.server.new_id())
        self.answer.headers["X-ClickHouse-Query-Id"] = query_id
        chunks = self._chunks()
        sent = Form(arguments, ())
        if is_form(headers.get("content-type", "")):
            sent = form(headers["content-type"], await whole(chunks), arguments)
        query = query_of(user, self.request.method, headers, sent.arguments, self.server.config.limits, query_id)
        if query.compresses:
            self.answer.encoding = chosen(headers.get("accept-encoding", ""))
        transit = self.server.transit / str(self.server.new_id())
        try:
            statement = await read_statement(sent.arguments.get("query", ""), chunks, transit)
            await self._check(user, statement, sent, transit)
            await self._run_statement(query, statement, sent, transit)
        finally:
            transit.unlink(missing_ok=True)

    def _chunks(self) -> AsyncIterator[bytes]:
        encoding = self.request.headers.get("content-encoding", "")
        return decoded(
            self.receive, decoder(encoding), self.server.config.limits.body_bytes, self.server.metrics.received_bytes.inc
        )

    async def _check(self, user: str, statement: Statement, sent: Form, spool: Path) -> None:
        try:
            await off_loop(statement.head, partial(refuse, statement.head, user))
            for table in sent.tables:
                refuse(table_definition(table), user)
            if isinstance(statement.parsed, DataInsert) and statement.parsed.format.lower() in EVALUATING:
                await asyncio.to_thread(refuse_in_values, spool)
        except ServerError:
            self.server.metrics.rejected.labels("refused_statement").inc()
            raise

    async def _run_statement(self, query: Query, statement: Statement, sent: Form, transit: Path) -> None:
        session = self.server.sessions.enter(query, time.monotonic())
        place = Place(self.server.engine, session, sent.tables, transit)
        try:
            if isinstance(statement.parsed, DataInsert):
                self.kind = "insert"
                outcome = await self.server.workers.start(partial(run_insert, place, query, statement.parsed, transit))
                await self.answer.whole(b"", _about(outcome, query.default_format))
            else:
                self.kind = "read"
                await self._run_plain(place, query, statement.parsed, transit)
        finally:
            if session is not None:
                self.server.sessions.leave(session, query, time.monotonic())

    async def _run_plain(self, place: Place, query: Query, statement: Plain, transit: Path) -> None:
        with closing(ResultPipe(transit)) as pipe:
            job = self.server.workers.start(partial(run_plain, place, query, statement, transit, self._abandoned))
            job.add_done_callback(lambda _: pipe.finish())
            watch = asyncio.create_task(self._cancel_when_left(job, str(transit)))
            format_name = statement.format or query.default_format
            self.answer.revised = format_name == "Native" and query.protocol_version >= CUSTOM_SERIALIZATION_REVISION
            try:
                await (self._gather(pipe, job, format_name) if query.waits_for_end else self._pass_on(pipe, job, format_name))
            finally:
                watch.cancel()
                await self._stop(job, str(transit), pipe)

    async def _pass_on(self, pipe: ResultPipe, job: asyncio.Future[Outcome], format_name: str) -> None:
        """The result as it comes."""
        first, ended = await pipe.read_up_to(BUFFERED_BYTES)
        if ended:
            outcome = await job
            await self.answer.whole(first or outcome.output, _about(outcome, format_name))
            return
        await self.answer.begin_stream(_format_headers(format_name))
        part = first
        while part:
            await self.answer.stream(part)
            part = await pipe.read()
        try:
            await job
        except ServerError as error:
            self.failed = True
            await self.answer.break_stream(error)
        else:
            await self.answer.end_stream()

    async def _gather(self, pipe: ResultPipe, job: asyncio.Future[Outcome], format_name: str) -> None:
        """The result once it is whole: an error at its very end still has a status of its own."""
        with SpooledTemporaryFile(GATHERED_IN_MEMORY_BYTES, dir=str(self.server.transit)) as gathered:
            while part := await pipe.read():
                await asyncio.to_thread(gathered.write, part)
            outcome = await job
            if gathered.tell() <= BUFFERED_BYTES:
                gathered.seek(0)
                await self.answer.whole(gathered.read() or outcome.output, _about(outcome, format_name))
                return
            gathered.seek(0)
            await self.answer.begin_stream(_about(outcome, format_name))
            while part := await asyncio.to_thread(gathered.read, READ_BYTES):
                await self.answer.stream(part)
            await self.answer.end_stream()

    async def _cancel_when_left(self, job: asyncio.Future[Outcome], tag: str) -> None:
        """Stop a query whose client has gone: again and again, since it may not have begun."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        await self._cancel(job, tag)

    async def _cancel(self, job: asyncio.Future[Outcome], tag: str) -> None:
        self._abandoned.set()
        while not job.done():
            await asyncio.to_thread(self.server.engine.cancel, tag)
            await asyncio.wait({job}, timeout=CANCEL_INTERVAL_SECONDS)

    async def _stop(self, job: asyncio.Future[Outcome], tag: str, pipe: ResultPipe) -> None:
        """Where the answer ended before the query did (a client that takes nothing, the server's end): end the query too.

        It may write what it still has, since it would open a pipe that has gone as a file.
        """
        if job.done():
            return
        draining = asyncio.create_task(pipe.drain())
        await self._cancel(job, tag)
        await draining
        job.exception()


def refuse_in_values(path: Path) -> None:
    """An insert's VALUES are SQL too."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        refuse_values(data)


def _about(outcome: Outcome, format_name: str) -> dict[str, str]:
    return {"X-ClickHouse-Summary": summary(outcome.figures), **_format_headers(format_name)}


def _format_headers(format_name: str) -> Mapping[str, str]:
    return {"X-ClickHouse-Format": format_name, "Content-Type": content_type(format_name)}
