"""Saying the less often the more often it happens."""

import logging


def level_of(count: int) -> int:
    """At which the failure number `count` of its kind is logged: as a warning the first, and every doubling of their number."""
    return logging.DEBUG if count & (count - 1) else logging.WARNING
