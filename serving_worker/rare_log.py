"""A log for what may happen on every request: one line a second is enough to be read."""

import logging
from collections.abc import Callable

PAUSE_US = 1_000_000


class RareLog:
    def __init__(self, logger: logging.Logger, monotonic_us: Callable[[], int]) -> None:
        self._logger, self._now_us = logger, monotonic_us
        self._told_us: int | None = None
        self._left_out = 0

    def warn(self, message: str) -> None:
        """`message`, with how many came since the last one that was logged."""
        now_us = self._now_us()
        if self._told_us is not None and now_us - self._told_us < PAUSE_US:
            self._left_out += 1
            return
        self._logger.warning("%s (and %d like it before)" if self._left_out else "%s", *filter(None, (message, self._left_out)))
        self._told_us, self._left_out = now_us, 0
