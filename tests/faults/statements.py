"""Which step of the protocol a request to the warehouse is, told by its statement alone. Pure."""

from enum import StrEnum


class Step(StrEnum):
    """What a sink asks the warehouse for."""

    FENCE = "fence"
    DRAIN = "drain"
    RECONCILE = "reconcile"
    READ_LETTERS = "read letters"
    SEARCH = "search"
    INSERT = "insert"
    INSERT_LETTERS = "insert letters"
    OTHER = "other"


def step_of(statement: str) -> Step:
    words = " ".join(statement.split()).replace("`", "")
    if words.startswith("INSERT INTO "):
        return _insert(words.removeprefix("INSERT INTO "))
    if "system.processes" in words:
        return Step.DRAIN
    if words.startswith("SELECT") and "groupBitmap" in words:
        return Step.RECONCILE
    if "UNION ALL" in words and "dead_letters" in words:
        return Step.RECONCILE
    return Step.READ_LETTERS if "FROM dead_letters" in words else Step.OTHER


def _insert(target: str) -> Step:
    if target.startswith(("ingest_fence", "replay_fence")):
        return Step.FENCE
    if target.startswith("FUNCTION null"):
        return Step.SEARCH
    if target.startswith(("ingest_", "replay_steps", "replay_manifests")):
        return Step.OTHER
    return Step.INSERT_LETTERS if target.startswith(("dead_letters", "replay_dead_letters")) else Step.INSERT
