"""Every way in which an event can be lost, and every error that the producers raise.

An emitter raises nothing: it counts losses by reason. What is raised here is for those who publish experiments and wait for the
answer (RecordRefused and PublishError are fatal for their record, SchemaUnavailable is retryable).
"""

from enum import StrEnum


class Loss(StrEnum):
    """Why an event will not arrive.

    The first four happen on the caller's thread and use no producer_seq. The others leave a gap in the sequence, which the
    checkpoints explain. Losses after sending are named `delivery_<librdkafka's error>`, refusals at sending `refused_<error>`.
    The last three happen on disk.
    """

    QUEUE_FULL = "queue_full"
    CLOSED = "closed"
    WRONG_EVENT = "wrong_event"
    """Not an event of a topic."""
    INTERNAL = "internal"
    """Our bug."""
    ENCODE = "encode"
    """A field does not fit its Avro type."""
    NO_SCHEMA = "no_schema"
    """The registry has no schema for its topic so far, and no more of them fit into memory."""
    TOPIC_REFUSED = "topic_refused"
    """Its topic takes nothing for now, the disk neither, and no more of them fit into memory."""
    UNSENT_AT_CLOSE = "unsent_at_close"
    """The emitter was closed before its registry, its transport or its disk had taken the event."""
    FORKED = "forked"
    """Emitted in a forked process by an emitter that cannot renew what it sends with."""
    SPOOL_FULL = "spool_full"
    """The oldest, dropped at the host's cap on size."""
    SPOOL_EXPIRED = "spool_expired"
    """On disk for longer than the cap on age."""
    SPOOL_CORRUPT = "spool_corrupt"
    """Written, and not to be read again."""


class Refusal(Exception):  # noqa: N818 - says what is the case
    """A transport does not take a record, and not for want of room. `reason` is a word to count by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RecordRefused(Refusal):
    """It will never take this record."""


class TopicRefused(Refusal):
    """It takes no record of this topic for now."""


class SchemaUnavailable(Exception):  # noqa: N818 - says what is the case
    """The id of a schema is not known now: the registry does not answer, or does not have the schema."""

    def __init__(self, subject: str, message: str, *, registered: bool | None) -> None:
        """`registered` is False where the registry answered that it lacks the schema, None where it did not answer."""
        super().__init__(f"{subject}: {message}")
        self.subject, self.registered = subject, registered


class PublishError(Exception):
    """The broker did not acknowledge an experiment's revision."""
