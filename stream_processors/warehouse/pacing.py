"""When a batch is delivered: soon when it is quiet, large when there is much to do. Pure.

Every insert has a price of its own, whatever its size. So a batch waits about as long as the partitions together need for a round
of inserts: on an idle warehouse that is little, on a busy one more, and never beyond the configured ages. A partition that is far
behind gains nothing from haste: it waits a little longer for its batch to fill.
"""

from dataclasses import dataclass

DUTY = 2.0
"""Inserting should take at most one part in so many of the time."""
BEHIND_RECORDS = 100_000
"""A partition with more than this still to fetch is behind."""
BEHIND_AGE_S = 1.0
_MEMORY = 0.8


@dataclass(slots=True)
class Pace:
    """What the last deliveries took, and so how long a batch should gather."""

    age_s_min: float
    age_s_max: float
    _delivery_s: float = 0.0

    def note(self, delivery_s: float) -> None:
        self._delivery_s = _MEMORY * self._delivery_s + (1 - _MEMORY) * delivery_s

    def age_s(self, partitions: int, lag_records: int) -> float:
        """How old a batch grows before it is due, with so many partitions in hand and so much of its own still to fetch."""
        if lag_records > BEHIND_RECORDS:
            return max(self.age_s_max, BEHIND_AGE_S)
        return min(self.age_s_max, max(self.age_s_min, DUTY * partitions * self._delivery_s))
