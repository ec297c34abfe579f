"""Why an answer is not its intended policy's: the one list of the words that stand in `degraded`."""

from enum import StrEnum


class Degraded(StrEnum):
    UNKNOWN_POLICY = "unknown_policy"
    """The arm names a policy that this worker does not have."""
    BAD_PARAMETER = "bad_parameter"
    """The policy cannot work with the arm's parameters."""
    REFUSED = "refused"
    """The policy said that it cannot rank, for another reason."""
    RANKER_FAILED = "ranker_failed"
    """The policy raised, or gave something that is no ranking."""
    TIMEOUT = "timeout"
    """The policy had the request for most of its share of the budget, and did not answer."""
    CRASHED = "crashed"
    """The policy's process ended with the request in hand."""
    MEMORY = "memory"
    """The policy ran into its limit of memory."""
    STARTING = "starting"
    """No process of the policy is up: the first is still starting, or the next waits after one that was killed."""
    BUSY = "busy"
    """All processes of the policy were taken: the queue was full, or none came free while there was time enough to answer."""
    BREAKER_OPEN = "breaker_open"
    """The policy has failed so often of late that it is not asked for a while."""
    WRONG_SIZE = "wrong_size"
    """Not as many items as were asked for, or all candidates where they are fewer."""
    UNKNOWN_ITEM = "unknown_item"
    """An item that is none of the candidates."""
    REPEATED_ITEM = "repeated_item"
    BAD_NUMBER = "bad_number"
    """A score or a propensity that is not finite, a propensity outside 0 and 1, or a log of one above 0."""
    UNREADABLE = "unreadable"
    """Bytes that are no answer, an answer that nobody asked for, or one that is longer than may be."""


REFUSALS = frozenset({Degraded.BAD_PARAMETER, Degraded.REFUSED})
"""What a policy may say of itself. Another word of its own would be a label that nobody bounds."""

FAULTS = frozenset(Degraded) - REFUSALS - {Degraded.UNKNOWN_POLICY, Degraded.STARTING, Degraded.BUSY, Degraded.BREAKER_OPEN}
"""What the circuit breaker counts against a policy."""


class Unanswered(Exception):  # noqa: N818 - no error of ours: it says what became of the request
    """A policy gave no ranking that can be shown."""

    def __init__(self, reason: Degraded, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def refusal_of(word: object) -> Degraded:
    """The reason for a policy's own word, which may be anything."""
    return Degraded(word) if isinstance(word, str) and word in REFUSALS else Degraded.REFUSED
