"""How large a share of a partition may become dead letters before the partition stops. Pure.

One broken producer among many is what dead letters are for. When most of a topic cannot be taken, the fault is elsewhere (a
registry that lost its schemas, a topic of something else), and burying it all would only empty the topic into the wrong table.
"""

from collections import deque
from dataclasses import dataclass, field

WINDOW_RECORDS = 20_000
"""The share is taken over about so many of the partition's last records."""


@dataclass(slots=True)
class DeadLetterLimit:
    """`share_max` of the last records, and never for fewer than `letters_min` of them."""

    share_max: float
    letters_min: int
    _batches: deque[tuple[int, int]] = field(default_factory=deque, init=False)

    def reached(self, records: int, letters: int) -> bool:
        """Whether a batch with so many records and dead letters would be over the limit."""
        letters_all = letters + sum(batch[1] for batch in self._batches)
        records_all = records + sum(batch[0] for batch in self._batches)
        return letters > 0 and letters_all >= self.letters_min and letters_all > self.share_max * records_all

    def note(self, records: int, letters: int) -> None:
        """A batch went in."""
        self._batches.append((records, letters))
        while len(self._batches) > 1 and sum(batch[0] for batch in self._batches) - self._batches[0][0] >= WINDOW_RECORDS:
            self._batches.popleft()
