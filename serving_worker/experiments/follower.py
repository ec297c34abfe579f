"""Following the topic of experiments for a host: what it holds is taken in, and written to the snapshot that all workers read.

Revisions of the old snapshot that the topic no longer shows are kept, so that no experiment ever falls back. `as_of` moves on
only while the brokers say that nothing is left to read. `following.py` sees to it that one process of a host follows.
"""

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

from producers.experiment_log import ExperimentLog, LogUnavailable
from schemas.errors import ContractError
from schemas.events import Micros
from serving_worker.experiments.intake import Intake
from serving_worker.experiments.snapshot_file import Contents, decode_body, encode_body, split, write

logger = logging.getLogger(__name__)

POLL_S = 0.2
ANSWER_TIMEOUT_S = 2.0
HEARTBEAT_US = 5_000_000
"""How often an idle follower asks the brokers whether it is still up to date."""
RETRY_S = 1.0
"""Between two tries for the log, or the disk."""


class Follower:
    """One round reads what has come, and writes the snapshot if there is something to say. Belongs to one thread."""

    def __init__(self, log: ExperimentLog, path: Path, now_us: Callable[[], Micros]) -> None:
        self._log, self._path, self._now_us = log, path, now_us
        self._sequence, contents = _standing(path)
        self._intake = Intake(contents)
        self._body = encode_body(self._intake.contents())
        self._written: bytes | None = None
        self._as_of = Micros(0)

    def round(self) -> bool:
        """Whether the snapshot was written. Raises LogUnavailable and OSError."""
        if found := self._log.poll(POLL_S):
            self._intake.take(found)
            self._body = encode_body(self._intake.contents())
        now = self._now_us()
        if self._body == self._written and 0 <= now - self._as_of < HEARTBEAT_US:
            return False
        if not self._log.caught_up(ANSWER_TIMEOUT_S):
            return False
        self._sequence = max(self._sequence + 1, now)
        write(self._path, self._sequence, now, self._body)
        self._written, self._as_of = self._body, now
        return True


def follow(path: Path, open_log: Callable[[], ExperimentLog], now_us: Callable[[], Micros], stop: Event) -> None:
    """Until `stop`; what goes wrong is said and tried again."""
    while not stop.is_set():
        try:
            with closing(open_log()) as log:
                _follow(Follower(log, path, now_us), stop)
        except Exception:
            logger.exception("following the experiments failed; it is begun anew")
            stop.wait(RETRY_S)


def _follow(follower: Follower, stop: Event) -> None:
    trouble = ""
    while not stop.is_set():
        trouble = _said(_trouble_of(follower), trouble)
        if trouble:
            stop.wait(RETRY_S)


def _trouble_of(follower: Follower) -> str:
    """What a round ran into; empty where all is well."""
    try:
        follower.round()
    except (LogUnavailable, OSError) as error:
        return str(error)
    return ""


def _said(trouble: str, before: str) -> str:
    if trouble != before:
        logger.log(logging.WARNING if trouble else logging.INFO, "following the experiments: %s", trouble or "up to date again")
    return trouble


def _standing(path: Path) -> tuple[int, Contents]:
    """The copy that the host has already. One that is wrong is begun anew: the topic has it all."""
    try:
        head, body = split(path.read_bytes())
        return head.sequence, decode_body(body)
    except FileNotFoundError:
        return 0, Contents()
    except ContractError:
        logger.exception("%s is begun anew", path)
        return 0, Contents()
