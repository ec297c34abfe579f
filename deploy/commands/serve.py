"""`tailrace serve`: the HTTP recommender."""

import click

from deploy.settings import environment
from serving_worker.main import serve as serve_until_signal
from serving_worker.stderr_log import log_to_stderr

EPILOG = """\b
Examples:
  TAILRACE_CATALOGUE_FILE=catalogue.json tailrace serve
  TAILRACE_CATALOGUE_FILE=catalogue.json TAILRACE_EXPERIMENTS_FILE=experiments.json tailrace serve --port 8080 --workers 4
  curl -H 'Content-Type: application/json' -d '{"unit_id": "u1", "surface": "home", "k": 3}' http://127.0.0.1:8080/v1/recommendations
"""


@click.command(epilog=EPILOG)
@click.option("--host", help="Listen here.  [default: TAILRACE_HTTP_HOST, or 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Listen here; 0 takes a free one.  [default: TAILRACE_HTTP_PORT, or 8080]"
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes.  [default: TAILRACE_HTTP_WORKERS, or 1]")
def serve(*, host: str | None, port: int | None, workers: int | None) -> None:
    """Recommend over HTTP, and emit what was served, until SIGTERM.

    Needs a catalogue; Kafka and the registry may be away. /openapi.json describes the interface, /metrics tells of all workers.

    At SIGTERM /readyz says no, and requests are answered for TAILRACE_DRAIN_MS more (5000), so that load balancers can turn away;
    then it ends. A preStop hook is not needed. Ctrl-C ends it at once.
    """
    log_to_stderr()
    variables = environment()
    if host is not None:
        variables["TAILRACE_HTTP_HOST"] = host
    if port is not None:
        variables["TAILRACE_HTTP_PORT"] = str(port)
    if workers is not None:
        variables["TAILRACE_HTTP_WORKERS"] = str(workers)
    serve_until_signal(variables, lambda url: click.echo(f"serving on {url}"))
