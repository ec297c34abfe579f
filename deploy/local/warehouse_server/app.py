"""The HTTP edge: which path answers what."""

import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.local.warehouse_server.answer import SERVER_NAME, Answer
from deploy.local.warehouse_server.body import ClientLeft
from deploy.local.warehouse_server.errors import ServerError
from deploy.local.warehouse_server.exchange import Exchange, Server


class QueryEndpoint:
    """Every request that carries a query."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.method == "GET" and "query" not in request.query_params:
            await _alive(request)(scope, receive, send)
            return
        started = time.monotonic()
        exchange = Exchange(self._server, request, receive, self._answer(send))
        outcome = "error"
        try:
            outcome = await _answered(exchange)
        finally:
            self._server.metrics.queries.labels(exchange.kind, outcome).inc()
            self._server.metrics.seconds.labels(exchange.kind).observe(time.monotonic() - started)

    def _answer(self, send: Send) -> Answer:
        engine = self._server.engine
        headers = {"X-ClickHouse-Server-Display-Name": SERVER_NAME, "X-ClickHouse-Timezone": engine.timezone}
        return Answer(send, engine.version, self._server.metrics, headers)


async def _answered(exchange: Exchange) -> str:
    """The outcome, as the metrics call it. A client that neither sends nor takes for minutes counts as gone."""
    try:
        await exchange.run()
    except ServerError as error:
        answer = exchange.answer
        await (answer.break_stream(error) if answer.started else answer.error(error))
        return "error"
    except (ClientLeft, TimeoutError):
        return "cancelled"
    return "error" if exchange.failed else "ok"


def _alive(_: Request) -> Response:
    return PlainTextResponse("Ok.\n")


def application(server: Server, registry: CollectorRegistry) -> Starlette:
    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    query = QueryEndpoint(server)
    return Starlette(
        routes=[
            Route("/ping", _alive),
            Route("/replicas_status", _alive),
            Route("/metrics", metrics),
            Route("/", query, methods=["GET", "POST"]),
            Route("/query", query, methods=["GET", "POST"]),
        ]
    )
