"""What a worker's metrics say."""

import urllib3

from tests.blast_radius.workers import Worker

EMITTED, ACKNOWLEDGED, DROPPED = (
    f'tailrace_producers_{word}_events_total{{topic="recommendations"' for word in ("emitted", "acknowledged", "dropped")
)
"""Series by the beginning of their name and labels."""
READ_LIMIT_S = 10


def read(worker: Worker) -> str:
    return urllib3.request("GET", f"{worker.url}/metrics", timeout=READ_LIMIT_S).data.decode()


def total(worker: Worker, start: str) -> float:
    """Of all series that begin so."""
    return sum(float(line.rpartition(" ")[2]) for line in read(worker).splitlines() if line.startswith(start))
