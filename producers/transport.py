"""How framed records leave the process: the contract that every transport keeps.

All methods belong to one thread, the courier's. `offer` never waits; a transport that is full says so, and the caller polls and
offers again. That refusal is the place where a spool on disk takes over: it wraps a transport, and is one.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutboundRecord:
    """A framed record for a topic, by its full name."""

    topic: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one record: `failure` is None where the broker has acknowledged it, else a word to count by."""

    topic: str
    failure: str | None


class Transport(Protocol):
    def offer(self, record: OutboundRecord) -> bool:
        """Take `record` for sending; False where there is no room now.

        Raises RecordRefused where it can never be sent.
        """
        ...

    def poll(self, timeout_s: float) -> tuple[Outcome, ...]:
        """The outcomes since the last call; waits up to `timeout_s` for a first one. Every record taken has exactly one."""
        ...

    def in_flight(self) -> int:
        """Records taken whose outcome has not been handed out."""
        ...

    def abandon(self) -> None:
        """Give up on what is in flight: its outcomes, failures, come with the next polls."""
        ...

    def close(self) -> None:
        """Let go of connections and threads. What is in flight is lost."""
        ...
