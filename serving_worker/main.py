"""The composition root of the worker: settings, catalogue, experiments, rankers, an emitter, an HTTP server."""

import asyncio
import logging
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.main import emitter_for, new_id, now_us
from producers.metrics import EmitterMetrics
from schemas.errors import ConfigurationError, PartUnreachable
from serving_worker.catalogue import load_catalogue
from serving_worker.config import WorkerSettings
from serving_worker.experiments import ExperimentFile
from serving_worker.http.api import Api, ApiLimits, Edge, refuse_http
from serving_worker.metrics import WorkerMetrics
from serving_worker.rankers.plackett_luce import PlackettLuce
from serving_worker.rankers.popularity import Popularity
from serving_worker.rankers.ranking import Ranker
from serving_worker.recommend import Clock, Recommender, RecommenderSettings, Shelf

logger = logging.getLogger(__name__)

BACKLOG_CONNECTIONS = 2_048


def default_rankers() -> dict[str, Ranker]:
    """The policies that arms can name."""
    return {"popularity": Popularity(), "plackett_luce": PlackettLuce()}


def build_app(settings: WorkerSettings, emitter: Emitter, rankers: Mapping[str, Ranker]) -> Starlette:
    """The ASGI application. It owns `emitter` from its start-up on, and closes it at its shutdown.

    Raises ConfigurationError where the catalogue is wrong. Experiments that are wrong leave the worker alive and not ready.
    """
    if settings.default_policy not in rankers:
        raise ConfigurationError((f"TAILRACE_DEFAULT_POLICY={settings.default_policy!r} is none of {', '.join(rankers)}",))
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    EmitterMetrics(registry, emitter.status)
    experiments = ExperimentFile(settings.experiments_file)
    _reload(experiments, metrics)
    recommender = _recommender(settings, rankers, experiments, emitter)
    edge = Edge(emitter.emit, now_us, new_id, lambda: _unready(experiments, emitter))
    limits = ApiLimits(settings.k_max, settings.body_bytes_max, settings.body_timeout_s)
    api = Api(recommender, limits, edge, metrics, registry)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(experiments, metrics, settings.experiments_reload_s))
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(_close, emitter, settings.shutdown_s)

    return Starlette(routes=api.routes(), lifespan=lifespan, exception_handlers={HTTPException: refuse_http})


def serve(variables: Mapping[str, str], announce: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, then stop taking requests, finish those that are there, and close the emitter.

    `announce` is told the URL once connections are taken. Raises ConfigurationError, and PartUnreachable where the port is taken.
    """
    settings, producer = WorkerSettings.from_environment(variables), ProducerSettings.from_environment(variables)
    listener = _listen(settings.host, settings.port)
    emitter = emitter_for(producer)
    try:
        app = build_app(settings, emitter, default_rankers())
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=max(1, int(settings.shutdown_s)),
        )
        host, port = listener.getsockname()[:2]
        announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        with _signals_end_quietly():
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()
        emitter.close(settings.shutdown_s)


def _recommender(
    settings: WorkerSettings, rankers: Mapping[str, Ranker], experiments: ExperimentFile, emitter: Emitter
) -> Recommender:
    seed = secrets.randbits(63) if settings.seed is None else settings.seed
    return Recommender(
        Shelf(load_catalogue(settings.catalogue_file), rankers),
        experiments,
        RecommenderSettings(settings.default_policy, settings.context_keys, seed),
        emitter.emit,
        Clock(now_us, lambda: time.monotonic_ns() // 1_000),
    )


def _unready(experiments: ExperimentFile, emitter: Emitter) -> dict[str, str]:
    """What keeps the worker from being ready, by part."""
    unready = {}
    if experiments.snapshot() is None:
        unready["experiments"] = experiments.problem or "not read so far"
    if not emitter.status().alive:
        unready["emitter"] = "its thread has ended"
    return unready


def _reload(experiments: ExperimentFile, metrics: WorkerMetrics) -> None:
    if experiments.reload():
        metrics.experiments_reloads.labels("bad" if experiments.problem else "good").inc()
        if experiments.problem:
            logger.error("the experiments stay as they were: %s", experiments.problem)
    metrics.experiments_good.set(experiments.problem is None)


async def _watch(experiments: ExperimentFile, metrics: WorkerMetrics, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        await asyncio.to_thread(_reload, experiments, metrics)


def _close(emitter: Emitter, timeout_s: float) -> None:
    status = emitter.close(timeout_s)
    if status.undelivered:
        logger.error("%d events were not delivered: %s", status.undelivered, status.topics)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; with it an answer takes 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        listener.close()
        remedy = f"{error.strerror}; name another with TAILRACE_HTTP_HOST and TAILRACE_HTTP_PORT (0 takes a free one)"
        raise PartUnreachable("the worker cannot listen", f"{host}:{port}", remedy) from error
    return listener


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """The server raises a signal that ended it once more when it is done; the process should then end in good order."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
