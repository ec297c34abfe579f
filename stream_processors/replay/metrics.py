"""What a run tells monitoring: the sink's figures under its own prefix, and how far it is, in a file.

A batch job is gone before it is scraped, so it writes a file for the node exporter's textfile collector, whole or not at all,
every few seconds and at its end.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from stream_processors.replay.progress import Progress
from stream_processors.warehouse.metrics import SinkMetrics

PREFIX = "tailrace_replay"
WRITE_EVERY_S = 5.0


class RunMetrics:
    """One process's figures of one run. `steps` are those that the sink's parts count."""

    def __init__(self, run: str, table: str, path: Path | None) -> None:
        self._registry = CollectorRegistry()
        self.steps = SinkMetrics(self._registry, PREFIX)
        self._path, self._written_s = path, 0.0

        def gauge(name: str, text: str) -> Gauge:
            made = Gauge(f"{PREFIX}_{name}", text, ("run", "table"), registry=self._registry)
            made.labels(run, table).set(0)
            return made

        self._labels = (run, table)
        self._done = gauge("offsets_done", "Offsets of the run that are in, or hold no record.")
        self._total = gauge("offsets", "Offsets of the run.")
        self._rate = gauge("rows_per_second", "Of the last seconds.")
        self._eta = gauge("eta_seconds", "Until the run is filled, as far as the rate tells; 0 where it tells nothing.")
        self._running = gauge("running", "1 while the process fills the run.")

    def tell(self, progress: Progress, now_s: float, *, running: bool) -> None:
        """Note how far the run is, and write the file when it is due, or the run has ended."""
        for gauge, figure in (
            (self._done, progress.done),
            (self._total, progress.total),
            (self._rate, progress.rows_per_s),
            (self._eta, progress.eta_s or 0.0),
            (self._running, float(running)),
        ):
            gauge.labels(*self._labels).set(figure)
        if self._path is not None and (not running or now_s - self._written_s >= WRITE_EVERY_S):
            self._written_s = now_s
            write_to_textfile(str(self._path), self._registry)
