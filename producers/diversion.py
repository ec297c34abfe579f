"""Whether what is emitted goes straight to the broker, or to disk first; and when to try the broker again. Pure.

One acknowledgement ends a diversion, one failure begins it. While it lasts a single record at a time tries the broker, after a
pause that grows from PAUSE_MIN_S to PAUSE_MAX_S.
"""

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 2.0


class Diversion:
    def __init__(self) -> None:
        self.diverted = False
        self._pause_s = PAUSE_MIN_S
        self._probe_at = 0.0

    def failed(self, now: float) -> None:
        """A record was not delivered, or the broker was found away."""
        if self.diverted and now < self._probe_at:
            return  # what was on its way with it
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S) if self.diverted else PAUSE_MIN_S
        self._probe_at = now + self._pause_s
        self.diverted = True

    def acknowledged(self) -> None:
        self.diverted = False

    def may_probe(self, now: float) -> bool:
        return now >= self._probe_at


class Rate:
    """At most `events_s`, in bursts of a tenth of a second's worth."""

    def __init__(self, events_s: int) -> None:
        self._events_s = events_s
        self._allowed = 0.0
        self._counted_at = 0.0

    def allowed(self, now: float) -> int:
        burst = max(1.0, self._events_s / 10)
        self._allowed = min(burst, self._allowed + (now - self._counted_at) * self._events_s)
        self._counted_at = now
        return int(self._allowed)

    def spend(self, events: int) -> None:
        self._allowed -= events
