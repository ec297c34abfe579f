"""`python -m deploy.local.warehouse_server`: the embedded warehouse as a process of its own.

Exit codes: 0 ended on SIGTERM or SIGINT, 2 wrong configuration, 3 the directory or the port cannot be had.
"""

import logging
import os
import shutil
import signal
import socket
import sys
from dataclasses import fields
from pathlib import Path
from uuid import UUID

import click
import uvicorn
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from deploy.local.warehouse_server.app import application
from deploy.local.warehouse_server.config import Limits, ServerConfig, passwords_from_environment
from deploy.local.warehouse_server.engine import Engine, EngineUnopenable
from deploy.local.warehouse_server.exchange import Server
from deploy.local.warehouse_server.metrics import ServerMetrics
from deploy.local.warehouse_server.sessions import Sessions
from deploy.local.warehouse_server.workers import Workers
from schemas.errors import ConfigurationError, PartUnreachable

UNREACHABLE, MISCONFIGURED = 3, 2
URL_BYTES_MAX = 1 << 20
"""ClickHouse's http_max_uri_size: many clients put the whole query there."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Raises PartUnreachable where the port is taken. Nobody can connect before it listens, which is after the engine is open."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as taken:
        bound.close()
        raise PartUnreachable(
            "the port of the warehouse server",
            f"{host}:{port}",
            f"{taken.strerror}; stop what listens there or give another --port",
        ) from taken
    return bound


def opened_engine(config: ServerConfig) -> Engine:
    data = config.directory / "engine"
    try:
        data.mkdir(parents=True, exist_ok=True)
        return Engine(data.resolve(), config.limits.server_memory_bytes)
    except OSError as refused:
        raise PartUnreachable(
            "the warehouse's directory",
            str(config.directory),
            f"{refused.strerror}; make it writable or give another --directory",
        ) from refused
    except EngineUnopenable as refused:
        raise PartUnreachable(
            "the warehouse's directory",
            str(data),
            "the engine cannot open it, for the reason above; end the process that holds it, or restore the directory",
        ) from refused


def serve(config: ServerConfig) -> None:
    listener = bound_socket(config.host, config.port)
    engine = opened_engine(config)
    transit = config.directory.resolve() / "transit"
    shutil.rmtree(transit, ignore_errors=True)
    transit.mkdir()
    registry = CollectorRegistry()
    metrics = ServerMetrics(registry)
    workers = Workers(config.limits, metrics)
    sessions = Sessions(config.limits.sessions, metrics, workers.close_away)
    server = Server(config, engine, workers, metrics, transit, sessions, _new_id)
    for stopping in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stopping, _ends_after_serving)
    uvicorn.Server(
        uvicorn.Config(
            application(server, registry),
            access_log=False,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=config.limits.grace_seconds,
            timeout_keep_alive=75,
            http="h11",  # httptools takes no URL above 64 kB, and a query may stand in it
            h11_max_incomplete_event_size=URL_BYTES_MAX,
            server_header=False,
        )
    ).run(sockets=[listener])
    engine.cancel_all()
    workers.close()
    engine.close()


def _ends_after_serving(signum: int, _: object) -> None:
    """What happens to a signal that the HTTP server has acted on: it raises it again when it has ended."""
    logging.getLogger(__name__).info("ended by signal %s", signum)


def _new_id() -> UUID:
    return uuid7()


def _limit_options(command: click.Command) -> click.Command:
    for limit in fields(Limits):
        option = click.Option(
            [f"--{limit.name.replace('_', '-')}"], type=click.IntRange(1), default=limit.default, show_default=True
        )
        command.params.append(option)
    return command


@click.command()
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the data live.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), required=True)
def main(directory: Path, host: str, port: int, **limits: int) -> None:
    """Serve the ClickHouse engine over ClickHouse's HTTP interface.

    Passwords come from TAILRACE_WAREHOUSE_SERVER_WRITER_PASSWORD (user tailrace) and TAILRACE_WAREHOUSE_SERVER_READER_PASSWORD
    (user reader).
    """
    try:
        serve(ServerConfig(directory, host, port, passwords_from_environment(os.environ), Limits(**limits)))
    except ConfigurationError as wrong:
        click.echo("\n".join(wrong.problems), err=True)
        sys.exit(MISCONFIGURED)
    except PartUnreachable as away:
        click.echo(str(away), err=True)
        sys.exit(UNREACHABLE)


_limit_options(main)

if __name__ == "__main__":
    main()
