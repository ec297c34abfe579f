"""How framed records leave the process: the contract that every transport keeps.

All methods belong to one thread, the courier's. `offer` never waits; a transport that is full says so, and the caller polls and
offers again, or puts the record on disk.
"""

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]
Keyed = tuple[str, bytes, bytes]
"""A topic by its full name, a key, a framed value."""

NOTHING: Mapping[Hashable, int] = MappingProxyType({})

INTERRUPTED = "interrupted"
"""Why a record has failed that was on its way when the client broke down: nobody has refused it, and it can be offered again."""

PERMANENT = frozenset(
    {"msg_size_too_large", "invalid_msg", "invalid_msg_size", "invalid_record", "record_list_too_large", "topic_exception"}
)
"""Failures that the same record meets again."""
OF_THE_TOPIC = frozenset(
    {
        "unknown_topic",
        "unknown_topic_or_part",
        "unknown_partition",
        "topic_authorization_failed",
        "not_enough_replicas",
        "not_enough_replicas_after_append",
    }
)
"""Failures that say nothing of other topics."""


class OutboundRecord(NamedTuple):
    """A framed record for a topic, by its full name. `ticket` is the sender's own: it comes back with the outcome.

    A tuple, since making a frozen dataclass costs three times as much.
    """

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()
    ticket: Hashable = None


class Outcomes(NamedTuple):
    """How records have ended: the broker has acknowledged `delivered`, and not `failed`, each with a word to count by.

    `together` says how many were delivered, by ticket, of those that were offered together; what fails of them comes without
    headers.
    """

    delivered: Sequence[OutboundRecord]
    failed: Sequence[tuple[OutboundRecord, str]]
    together: Mapping[Hashable, int] = NOTHING

    @property
    def told(self) -> int:
        """Of how many records."""
        return len(self.delivered) + len(self.failed) + sum(self.together.values())


class Transport(Protocol):
    def offer(self, record: OutboundRecord) -> bool:
        """Take `record` for sending; False where there is no room now.

        Raises RecordRefused where it can never be sent, TopicRefused where its topic takes nothing for now.
        """
        ...

    def offer_together(self, records: Sequence[Keyed], headers: Headers, ticket: Hashable) -> int:
        """Take as many of the first as there is room for now, all with these headers and one ticket.

        Raises RecordRefused where the first can never be sent, TopicRefused where the topic of the first takes nothing for now.
        """
        ...

    def poll(self, timeout_s: float) -> Outcomes:
        """The outcomes since the last call; waits up to `timeout_s` for a first one. Every record taken has exactly one."""
        ...

    def in_flight(self) -> int:
        """Records taken whose outcome has not been handed out."""
        ...

    def troubled(self) -> bool:
        """Whether the other side has been found away since this was asked last. It may be back by now."""
        ...

    def renewals(self) -> int:
        """How often a client broke down, and another was made in its place. What it had on its way has failed as INTERRUPTED."""
        ...

    def abandon(self) -> None:
        """Give up on what is in flight: its outcomes, failures, come with the next polls."""
        ...

    def close(self) -> None:
        """Let go of connections and threads. What is in flight is lost."""
        ...
