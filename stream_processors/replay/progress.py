"""How far a run is: offsets done and to do, its rate of late, when it will be done, whether it stalls. Pure: time comes in."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.errors import PartUnreachable

STALLED_S = 60.0
"""A run that gets nowhere for so long, though it may, ends with an error; it goes on where it was when it is started again."""
WINDOW_S = 15.0
"""The rate is that of the last seconds, so that what has changed shows."""


class Progress(NamedTuple):
    """`eta_s` is None while nothing can be said."""

    done: int
    total: int
    rows_per_s: float
    eta_s: float | None

    def __str__(self) -> str:
        share = 100 * self.done / self.total if self.total else 100.0
        left = "" if self.eta_s is None else f", {_duration(self.eta_s)} left"
        return f"{self.done:,}/{self.total:,} offsets ({share:.1f} %), {self.rows_per_s:,.0f}/s{left}"


@dataclass(slots=True)
class Pacer:
    total: int
    _seen: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def note(self, now_s: float, done: int) -> Progress:
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and now_s - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        began_s, before = self._seen[0]
        lasted_s = now_s - began_s
        rate = (done - before) / lasted_s if lasted_s > 0 else 0.0
        return Progress(done, self.total, rate, (self.total - done) / rate if rate > 0 else None)


@dataclass(slots=True)
class StallWatch:
    """Whether the run gets anywhere."""

    moved_s: float
    done: int = -1

    def refuse_stall(self, now_s: float, done: int) -> None:
        if done != self.done:
            self.done, self.moved_s = done, now_s
        elif now_s - self.moved_s > STALLED_S:
            remedy = "its log names the part that does not answer; run it again, it goes on where it was"
            raise PartUnreachable("the run", f"{done:,} offsets", f"nothing was brought in for {STALLED_S:.0f} s; {remedy}")


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
