"""How closely the next batch is looked at before it is inserted, from what the last ones held. Pure.

A refused batch is searched datum by datum; refused again all the same, with the engine's opinion of each part. Looking costs, so
how many batches are looked at after it grows only while poison keeps coming: one bad record in a million costs two looks, one in
a hundred has every batch looked at.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

WINDOW_MAX = 32


class Look(IntEnum):
    """How a batch is searched for poison before it is inserted."""

    NOT = 0
    AT_EACH_DATUM = 1
    WITH_THE_ENGINE = 2


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`left` batches are still to be looked at; `window` would be with the next poison."""

    look: Look = Look.NOT
    left: int = 0
    window: int = 1

    def after_refusal(self) -> "Suspicion":
        """The engine blamed the data of a batch that had been looked at like this."""
        return replace(self, look=Look(min(self.look + 1, Look.WITH_THE_ENGINE)), left=max(1, self.left))

    def after_batch(self, *, poisoned: bool) -> "Suspicion":
        """A batch is in; `poisoned` where the search found something in it."""
        if self.look is Look.NOT:
            return self
        if poisoned:
            return replace(self, left=self.window, window=min(WINDOW_MAX, self.window * 2))
        return replace(self, left=self.left - 1) if self.left > 1 else Suspicion()
