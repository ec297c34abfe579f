"""How much may be in the worker at once. What is beyond it is shed before it has cost anything, so that the rest is in time.

Two signs of being beyond: too many requests that wait for a policy, and an event loop that has been late for a while. One late
turn (a collection of garbage, a process started) is none.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving_worker.errors import Shed

RETRY_AFTER_S = 1
"""Whoever is refused for load, here or where events are taken, may come again after this."""
LAG_TICK_S = 0.02
LAG_TICKS = 5
"""So many in a row must be late."""


class Capacity:
    """`late_us_max` is how late the event loop may be."""

    def __init__(self, in_flight_max: int, late_us_max: int) -> None:
        self._in_flight_max, self._late_us_max = in_flight_max, late_us_max
        self.in_flight = 0
        self._late_us: deque[int] = deque([0] * LAG_TICKS, maxlen=LAG_TICKS)

    @contextmanager
    def place(self) -> Iterator[None]:
        """For one request. Raises Shed."""
        if self.in_flight >= self._in_flight_max or min(self._late_us) > self._late_us_max:
            raise Shed(RETRY_AFTER_S)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def note_lateness(self, late_us: int) -> None:
        self._late_us.append(late_us)


async def watch_lateness(capacity: Capacity, monotonic_us: Callable[[], int]) -> None:
    """For as long as the worker runs."""
    while True:
        began_us = monotonic_us()
        await asyncio.sleep(LAG_TICK_S)
        capacity.note_lateness(monotonic_us() - began_us - int(LAG_TICK_S * 1e6))
