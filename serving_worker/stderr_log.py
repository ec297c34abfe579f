"""Where the log of a process goes that answers, or follows for those that do."""

import logging
import sys


def log_to_stderr() -> None:
    """For each process: a new one begins with nothing."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every look-up of a schema
