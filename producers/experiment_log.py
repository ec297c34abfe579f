"""The compacted topic of experiments as those read it who keep a copy: revisions, and records that are none."""

import time
from dataclasses import dataclass
from typing import Protocol

from schemas.events import ExperimentDefinition

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is no revision: where it stands, its key (`experiment:revision`, if it is well-formed), and why."""

    where: str
    key: str
    problem: str


class LogUnavailable(Exception):  # noqa: N818 - says what is the case
    """The topic, or the registry that its records need, cannot be read now. Retryable: nothing that was read is lost."""


class ExperimentLog(Protocol):
    """Reads from the topic's start, then follows it. All methods belong to one thread."""

    def poll(self, timeout_s: float) -> tuple[ExperimentDefinition | Refused, ...]:
        """What has come since the last call, in the topic's order; waits up to `timeout_s` for a first record.

        Raises LogUnavailable.
        """
        ...

    def caught_up(self, timeout_s: float) -> bool:
        """Whether all that is in the topic now has been handed out: the brokers are asked.

        Raises LogUnavailable.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...


def read_to_end(log: ExperimentLog, timeout_s: float) -> list[ExperimentDefinition | Refused]:
    """All that is in the topic now, in its order. Raises LogUnavailable, also where it takes too long."""
    deadline = time.monotonic() + timeout_s
    found: list[ExperimentDefinition | Refused] = []
    while True:
        found.extend(log.poll(POLL_S))
        if log.caught_up(max(POLL_S, deadline - time.monotonic())):
            return found
        if time.monotonic() > deadline:
            raise LogUnavailable(f"the topic's end was not reached within {timeout_s:g} s")
