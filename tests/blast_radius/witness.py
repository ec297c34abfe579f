"""Whether the machine itself was slow for a moment: the same piece of work, timed again and again beside the load.

Some hosts slow all cores of a machine down to a tenth for tens of milliseconds, and call it neither stolen nor idle: an idle
machine's loop sees it too. Whoever asks then waits for the host, whatever is measured.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

PERIOD_S = 0.002
WORK = range(800)
SLOW = 3.0
"""So many times as long as usual."""
RECOVERY_S = 0.03
"""Until what has come meanwhile is answered."""

Spell = tuple[float, float]
"""From when to when it was slow."""


class Witness:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: list[Spell] = []

    async def watch(self) -> None:
        """On the cores of the load, and like it before the rest there: what else runs there has no say."""
        while True:
            began = self._clock()
            sum(WORK)
            self._seen.append((began, self._clock()))
            await asyncio.sleep(PERIOD_S)

    def spells(self) -> list[Spell]:
        return spells(self._seen)


def spells(seen: Sequence[Spell]) -> list[Spell]:
    """Each from the last time that all was well. `seen` is when each piece of work began and ended."""
    if not seen:
        return []
    slow_s = SLOW * median(ended - began for began, ended in seen)
    first_s = seen[0][0]
    steps = pairwise([(first_s, first_s), *seen])
    return [(last, ended + RECOVERY_S) for (_, last), (began, ended) in steps if ended - began > slow_s]


def meets(spells: Sequence[Spell], began: float, ended: float) -> bool:
    return any(began < to and since < ended for since, to in spells)
