"""The composition root of the worker: settings, catalogue, experiments, rankers, an emitter, an HTTP server."""

import asyncio
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.experiment_log import ExperimentLog
from producers.main import emitter_for, experiment_log_for, new_id, now_us
from producers.metrics import EmitterMetrics
from serving_worker.answering import Answering, Outlets, Stock, stock_of
from serving_worker.config import SEED, WorkerSettings
from serving_worker.experiments.definitions import ExperimentFile
from serving_worker.experiments.feed import errand_of, experiments_of, following
from serving_worker.experiments.following import Hitches
from serving_worker.experiments.watch import Watch
from serving_worker.http.api import Api, ApiLimits, Edge, refuse_http
from serving_worker.http.fleet_metrics import Fleet, place_for_sockets
from serving_worker.http.keys import Keys, load_keys
from serving_worker.http.server import ServerLimits, draining, leave_requests_to_reference_counts, listen, run, run_fleet, url_of
from serving_worker.http.supervisor import RESPAWN_S
from serving_worker.isolation.checking import refuse_broken
from serving_worker.metrics import WorkerMetrics
from serving_worker.parent_death import end_with_parent
from serving_worker.recommend import Clock, RecommenderSettings
from serving_worker.stderr_log import flush_log, log_to_stderr

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files of the settings hold: all that can be wrong with them shows when it is loaded."""

    stock: Stock
    keys: Keys


def load(settings: WorkerSettings) -> Loaded:
    """Raises ConfigurationError where the catalogue, the control or the keys are wrong."""
    stock = stock_of(settings.catalogue_file, settings.default_policy, settings.policies.rankers)
    return Loaded(stock, load_keys(settings.api_keys_file))


def build_app(
    settings: WorkerSettings,
    loaded: Loaded,
    emitter: Emitter,
    fleet_directory: Path | None = None,
    open_log: Callable[[], ExperimentLog] | None = None,
) -> Starlette:
    """The ASGI application. It owns `emitter` from its start-up on, and closes it at its shutdown.

    Experiments that are wrong leave the worker alive and not ready. `open_log` is how the topic of experiments is followed;
    without it the snapshot is only read.
    """
    registry = CollectorRegistry()
    fleet, going_down = Fleet(registry, fleet_directory, settings.workers), Event()
    metrics = WorkerMetrics(registry)
    EmitterMetrics(registry, emitter.status)
    experiments = experiments_of(settings.experiments)
    watch = Watch(experiments, metrics, settings.experiments.reload_s, time.monotonic)
    errand = errand_of(settings.experiments, open_log, now_us)
    hitches = Hitches(time.monotonic, metrics.experiments.follow_failures.inc)
    answering = _answering(settings, loaded.stock, experiments, emitter, metrics)
    edge = Edge(emitter.emit, now_us, new_id, lambda: _unready(watch, emitter, going_down), fleet.exposition)
    limits = ApiLimits(tuple(loaded.stock.catalogue.surfaces), settings.k_max, settings.body_bytes_max, settings.body_timeout_s)
    api = Api(answering.recommender, limits, loaded.keys, edge, metrics.http)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with _flushed_log(), following(errand, hitches, Event()), draining(settings.drain_s, going_down.set):
            try:
                async with watch.kept_up(), fleet.telling(), answering.at_work():
                    yield
            finally:
                await asyncio.to_thread(_close, emitter, settings.shutdown_s)

    return Starlette(routes=api.routes(), lifespan=lifespan, exception_handlers={HTTPException: refuse_http})


NewEmitter = Callable[[ProducerSettings], Emitter]


def serve(variables: Mapping[str, str], announce: Callable[[str], None], new_emitter: NewEmitter = emitter_for) -> None:
    """Run until SIGTERM or SIGINT, then stop taking requests, finish those that are there, and close the emitters.

    `announce` is told the URL once connections are taken. Raises ConfigurationError, and PartUnreachable where the port is taken.
    """
    settings = WorkerSettings.from_environment(variables)
    ProducerSettings.from_environment(variables)
    refuse_broken(settings.policies.rankers, os.environ)
    loaded = _loaded_here(settings)
    # all processes draw alike: a call that is sent again has the same answer, whichever of them it reaches
    seeded = {SEED: str(secrets.randbits(63)), **{name: value for name, value in variables.items() if value}}
    limits = ServerLimits(settings.head_timeout_s, settings.shutdown_s)
    with closing(listen(settings.host, settings.port)) as listener:
        if loaded is not None:
            app = _app_of_process(seeded, new_emitter, loaded)
            announce(url_of(listener))
            run(app, listener, limits)
            return
        with place_for_sockets() as directory:
            announce(url_of(listener))
            new_app = partial(_app_of_fleet, seeded, new_emitter, directory, os.getpid())
            run_fleet(new_app, listener, settings.workers, limits)


def _loaded_here(settings: WorkerSettings) -> Loaded | None:
    """What this process is going to serve. Where several others will, they load for themselves, and it was looked at only."""
    loaded = load(settings)
    return loaded if settings.workers == 1 else None


def _app_of_fleet(variables: Mapping[str, str], new_emitter: NewEmitter, fleet: Path, parent_pid: int) -> Starlette:
    """A process that cannot come up ends after a while: its successor is started at once, and would do no better at once.

    One whose parent was killed would be supervised by nobody, and keep the address from the next one: it drains and ends.
    """
    try:
        log_to_stderr()
        end_with_parent(parent_pid, signal.SIGTERM)
        return _app_of_process(variables, new_emitter, fleet=fleet)
    except Exception:
        logger.exception("this process cannot come up; another is started in %g s", RESPAWN_S)
        Event().wait(RESPAWN_S)
        sys.exit(1)


def _app_of_process(
    variables: Mapping[str, str], new_emitter: NewEmitter, loaded: Loaded | None = None, fleet: Path | None = None
) -> Starlette:
    settings = WorkerSettings.from_environment(variables)
    logging.getLogger("tailrace.access").setLevel(logging.INFO if settings.access_log else logging.WARNING)
    producer = ProducerSettings.from_environment(variables)
    app = build_app(settings, loaded or load(settings), new_emitter(producer), fleet, partial(experiment_log_for, producer))
    leave_requests_to_reference_counts()
    return app


def _answering(
    settings: WorkerSettings, stock: Stock, experiments: ExperimentFile, emitter: Emitter, metrics: WorkerMetrics
) -> Answering:
    seed = secrets.randbits(63) if settings.seed is None else settings.seed
    return Answering(
        stock,
        experiments,
        RecommenderSettings(settings.context_keys, seed, settings.policies.budget_us),
        settings.policies,
        Outlets(emitter.emit, metrics, Clock(now_us, lambda: time.monotonic_ns() // 1_000), os.environ),
    )


def _unready(watch: Watch, emitter: Emitter, going_down: Event) -> dict[str, str]:
    """What keeps the worker from being ready, by part."""
    unready = {}
    if going_down.is_set():
        unready["worker"] = "it is going down"
    if (trouble := watch.trouble()) is not None:
        unready["experiments"] = trouble
    if not emitter.status().alive:
        unready["emitter"] = "its thread has ended"
    return unready


@contextmanager
def _flushed_log() -> Iterator[None]:
    """A process of a fleet is ended by its signal as soon as the application has closed."""
    try:
        yield
    finally:
        flush_log()


def _close(emitter: Emitter, timeout_s: float) -> None:
    status = emitter.close(timeout_s)
    if (lost := status.undelivered - status.spooled) > 0:
        logger.error("%d events were not delivered: %s", lost, status.topics)
    if status.spooled:
        logger.info("%d events wait in the spool for the next emitter of this host", status.spooled)
