"""How fast a run may read: as told, and as much slower as the live sink's lag asks. Pure but for the clock that comes in."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stream_processors.warehouse.kafka_source import FETCH_RECORDS_MAX
from stream_processors.warehouse.records import Place

YIELD_ROWS_PER_S_MIN = 500.0
YIELD_ROWS_PER_S_FIRST = 5_000.0
_FASTER, _SLOWER = 1.1, 0.5
LAG_S_MIN = 0.5
"""Less than this is how a sink breathes: it gathers a batch, inserts it, commits."""
LAG_TIMES_MAX = 1.25
"""Of what the lag was before the run began."""
_SAMPLES_MAX = 4_000


@dataclass(slots=True)
class Rate:
    """At most so many records a second, smoothed over a tenth of one; None is without a limit. A `Throttle`."""

    clock_s: Callable[[], float]
    rows_per_s: float | None = None
    _credit: float = field(default=0.0, init=False)
    _counted_s: float | None = field(default=None, init=False)

    def allowance(self) -> int:
        if self.rows_per_s is None:
            return FETCH_RECORDS_MAX
        now_s = self.clock_s()
        if self._counted_s is not None:
            self._credit += (now_s - self._counted_s) * self.rows_per_s
        self._counted_s = now_s
        self._credit = min(self._credit, max(1.0, self.rows_per_s / 10))
        return int(self._credit)

    def took(self, records: int) -> None:
        if self.rows_per_s is not None:
            self._credit -= records


class LiveLag:
    """How old the oldest record is that the live sink has not committed, seen from outside: by ends of logs and commits."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[Place, int]]] = deque(maxlen=_SAMPLES_MAX)

    def note(self, now_s: float, ends: Mapping[Place, int], committed: Mapping[Place, int]) -> float:
        """Seconds: since when, at least, some log has had more than is committed."""
        self._seen.append((now_s, ends))
        while len(self._seen) > 1 and not _behind(self._seen[0][1], committed):
            self._seen.popleft()
        oldest_s, oldest = self._seen[0]
        return now_s - oldest_s if _behind(oldest, committed) else 0.0


def _behind(ends: Mapping[Place, int], committed: Mapping[Place, int]) -> bool:
    """Partitions that the sink has never committed anything of do not count: nobody brings them in."""
    return any(end > committed.get(place, end) for place, end in ends.items())


@dataclass(slots=True)
class Yielding:
    """The rate that a lag leaves: slowly up while the live sink keeps pace, at once down when it does not. Pure."""

    rows_per_s_max: float | None = None
    lag_s_max: float = LAG_S_MIN
    rows_per_s: float = YIELD_ROWS_PER_S_FIRST

    def settle(self, lags_s: list[float]) -> None:
        """What lag is usual here, from what was seen before the run began."""
        self.lag_s_max = max([LAG_S_MIN, *(lag_s * LAG_TIMES_MAX for lag_s in lags_s)])

    def after(self, lag_s: float) -> float:
        """The rate after one more look."""
        changed = self.rows_per_s * (_FASTER if lag_s <= self.lag_s_max else _SLOWER)
        self.rows_per_s = max(YIELD_ROWS_PER_S_MIN, min(changed, self.rows_per_s_max or changed))
        return self.rows_per_s
