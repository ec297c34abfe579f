"""`tailrace sink`: from Kafka into the warehouse, exactly once."""

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from types import FrameType

import click

from deploy.settings import environment
from stream_processors.warehouse.config import SinkConfig
from stream_processors.warehouse.main import Sink

log = logging.getLogger(__name__)

EPILOG = """\b
Examples:
  tailrace sink                 run until SIGTERM
  tailrace sink --drain         bring in what is there now, then end
  tailrace sink --drain --json  the same, with the counts as JSON

\b
Settings, each with its default:
  TAILRACE_SINK_GROUP                        the consumer group; <prefix>warehouse
  TAILRACE_SINK_BATCH_ROWS_MAX               100000
  TAILRACE_SINK_BATCH_BYTES_MAX              32 MiB
  TAILRACE_SINK_BATCH_AGE_MS_MIN, _MAX       50, 300: how long a batch gathers
  TAILRACE_SINK_BYTES_IN_HAND_MAX            64 MiB, over all partitions
  TAILRACE_SINK_INSERTS_MAX                  3 at once, one at a time a partition
  TAILRACE_SINK_DEAD_LETTERS_PERCENT_MAX     20: above it a partition stops
  TAILRACE_METRICS_PORT                      0: no /metrics and no /health
  TAILRACE_KAFKA_OPTIONS, _WAREHOUSE_OPTIONS name=value,…: passed through
"""
END_LIMIT_S = 9.5
"""After SIGTERM. What was not committed by then will be read again: nothing is lost by going."""


class Stop:
    """Turns true with SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self._stopped

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._stopped:
            last_word = threading.Timer(END_LIMIT_S, _give_up)
            last_word.daemon = True
            last_word.start()
        self._stopped = True


def _give_up() -> None:
    """The broker or the warehouse holds the main thread in a call that does not end."""
    log.warning("not all could be delivered and committed within %.1f s; it will be read again", END_LIMIT_S)
    os._exit(3)


@click.command(epilog=EPILOG)
@click.option("--drain", is_flag=True, help="End when all that was in the topics at the start is in.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON when it ends.")
def sink(*, drain: bool, as_json: bool) -> None:
    """Move events from Kafka into the warehouse, exactly once.

    Several processes share the work. SIGTERM delivers and commits what has been gathered, then ends.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("stream_processors").setLevel(logging.INFO)
    stop = Stop()
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
