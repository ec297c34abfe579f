"""`tailrace sink`: from Kafka into the warehouse, exactly once."""

import json
import logging
import signal
import sys
from dataclasses import asdict
from types import FrameType

import click

from deploy.settings import environment
from stream_processors.warehouse.config import SinkConfig
from stream_processors.warehouse.main import Sink

EPILOG = """\b
Examples:
  tailrace sink                 run until SIGTERM
  tailrace sink --drain         bring in what is there now, then end
  tailrace sink --drain --json  the same, with the counts as JSON
"""


class _Stop:
    """Turns true with SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self._stopped

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True


@click.command(epilog=EPILOG)
@click.option("--drain", is_flag=True, help="End when all that was in the topics at the start is in.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON when it ends.")
def sink(*, drain: bool, as_json: bool) -> None:
    """Move events from Kafka into the warehouse, exactly once.

    Several processes share the work. SIGTERM delivers and commits what has been gathered, then ends.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("stream_processors").setLevel(logging.INFO)
    stop = _Stop()
    running = Sink(SinkConfig.from_environment(environment()))
    try:
        result = running.drain(stop, _show_progress) if drain else running.run(stop)
    finally:
        running.close()
    rate = result.rows / result.seconds if result.seconds else 0
    summary = f"{result.rows} rows, {result.dead_letters} dead letters in {result.seconds:.1f} s ({rate:.0f} rows/s)"
    click.echo(json.dumps(asdict(result)) if as_json else summary)


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} offsets", nl=done == total, err=True)
