"""One query from its request to the last byte of its answer."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

from starlette.requests import Request
from starlette.types import Receive

from deploy.local.warehouse_server.access import authenticated
from deploy.local.warehouse_server.answer import Answer, content_type
from deploy.local.warehouse_server.body import Statement, decoded, read_statement
from deploy.local.warehouse_server.compression import chosen, decoder
from deploy.local.warehouse_server.config import ServerConfig
from deploy.local.warehouse_server.engine import Engine, Outcome
from deploy.local.warehouse_server.errors import ServerError
from deploy.local.warehouse_server.metrics import ServerMetrics
from deploy.local.warehouse_server.query import Query, query_of, summary
from deploy.local.warehouse_server.refusals import refuse
from deploy.local.warehouse_server.result_pipe import ResultPipe
from deploy.local.warehouse_server.run import run_insert, run_plain
from deploy.local.warehouse_server.statement import DataInsert, Plain
from deploy.local.warehouse_server.workers import Workers

BUFFERED_BYTES = 1 << 20
"""An answer's first bytes are held back until so many are there: an error before that still has a status of its own."""
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
    new_id: Callable[[], UUID]


@dataclass(slots=True)
class Exchange:
    server: Server
    request: Request
    receive: Receive
    answer: Answer
    kind: str = "none"
    """insert, read or other, once it is known."""
    failed: bool = False
    """The result broke off in mid-stream."""
    _abandoned: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Raises ServerError while nothing has been answered; ClientLeft where the request never became whole."""
        headers, arguments = self.request.headers, dict(self.request.query_params)
        user = authenticated(headers, arguments, self.server.config.passwords)
        query_id = arguments.get("query_id") or str(self.server.new_id())
        self.answer.headers["X-ClickHouse-Query-Id"] = query_id
        query = query_of(user, self.request.method, headers, arguments, self.server.config.limits, query_id)
        if query.compresses:
            self.answer.encoding = chosen(headers.get("accept-encoding", ""))
        transit = self.server.transit / str(self.server.new_id())
        try:
            await self._run_statement(query, await self._statement(arguments.get("query", ""), transit), transit)
        finally:
            transit.unlink(missing_ok=True)

    async def _statement(self, url_query: str, spool: Path) -> Statement:
        chunks = decoded(
            self.receive, decoder(self.request.headers.get("content-encoding", "")), self.server.config.limits.body_bytes
        )
        statement = await read_statement(url_query, chunks, spool)
        refuse(statement.head)
        return statement

    async def _run_statement(self, query: Query, statement: Statement, transit: Path) -> None:
        parsed = statement.parsed
        if isinstance(parsed, DataInsert):
            self.kind = "insert"
            outcome = await self.server.workers.start(partial(run_insert, self.server.engine, query, parsed, transit))
            await self.answer.whole(b"", _about(outcome, query.default_format))
        else:
            self.kind = "read"
            await self._run_plain(query, parsed, transit)

    async def _run_plain(self, query: Query, statement: Plain, transit: Path) -> None:
        pipe = ResultPipe(transit)
        try:
            job = self.server.workers.start(partial(run_plain, self.server.engine, query, statement, transit, self._abandoned))
            job.add_done_callback(lambda _: pipe.finish())
            watch = asyncio.create_task(self._cancel_when_left(job, str(transit)))
            try:
                await self._pass_on(pipe, job, statement.format or query.default_format, query)
            finally:
                watch.cancel()
        finally:
            pipe.close()

    async def _pass_on(self, pipe: ResultPipe, job: asyncio.Future[Outcome], format_name: str, query: Query) -> None:
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

    async def _cancel_when_left(self, job: asyncio.Future[Outcome], tag: str) -> None:
        """Stop a query whose client has gone: again and again, since it may not have begun."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._abandoned.set()
        while not job.done():
            await asyncio.to_thread(self.server.engine.cancel, tag)
            await asyncio.wait({job}, timeout=CANCEL_INTERVAL_SECONDS)


def _about(outcome: Outcome, format_name: str) -> dict[str, str]:
    return {"X-ClickHouse-Summary": summary(outcome.figures), **_format_headers(format_name)}


def _format_headers(format_name: str) -> Mapping[str, str]:
    return {"X-ClickHouse-Format": format_name, "Content-Type": content_type(format_name)}
