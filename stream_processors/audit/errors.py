"""Errors of the auditor. Parts that do not answer are PartUnreachable (schemas/errors.py)."""


class Shifted(Exception):  # noqa: N818 - says what is the case
    """Retryable: a log began later, or a topic was made anew, while it was looked at. Look again."""
