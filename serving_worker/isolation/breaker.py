"""The circuit breaker of one policy: one that keeps failing is not asked for a while. Pure; time comes in.

Closed: every request goes through, and what becomes of it is remembered for WINDOW_S. Open: none goes through until a pause is
over. Half-open: one goes through as a probe; its success closes the breaker, its failure opens it for twice the pause.
"""

from collections import deque
from enum import StrEnum

FAILURES_MIN = 5
FAILED_SHARE_MAX = 0.5
"""It opens at this share of the window's outcomes, where they hold FAILURES_MIN failures."""
WINDOW_S = 10
WINDOW_OUTCOMES_MAX = 200
PAUSE_S_MIN, PAUSE_S_MAX = 1, 30

_SECOND_US = 1_000_000


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Times are microseconds of a clock that does not jump. A request that was let in carries a ticket to its outcome; tickets
    from before the last change of state are void, so that a straggler is not taken for the probe.
    """

    def __init__(self) -> None:
        self.state = State.CLOSED
        self._ticket = 0
        self._outcomes: deque[tuple[int, bool]] = deque()
        self._failures = 0
        self._opened_us = 0
        self._pause_s = PAUSE_S_MIN

    def admit(self, now_us: int) -> int | None:
        """A ticket for one request to the policy, or None. The first after the pause is the probe."""
        if self.state is State.OPEN and now_us - self._opened_us >= self._pause_s * _SECOND_US:
            self._turn(State.HALF_OPEN)
            return self._ticket
        return self._ticket if self.state is State.CLOSED else None

    def succeeded(self, ticket: int, now_us: int) -> None:
        if ticket != self._ticket:
            return
        if self.state is State.HALF_OPEN:
            self._turn(State.CLOSED)
            self._pause_s, self._failures = PAUSE_S_MIN, 0
            self._outcomes.clear()
        self._remember(now_us, failed=False)

    def failed(self, ticket: int, now_us: int) -> None:
        if ticket != self._ticket:
            return
        if self.state is State.HALF_OPEN:
            self._open(now_us, min(self._pause_s * 2, PAUSE_S_MAX))
            return
        self._remember(now_us, failed=True)
        if self._failures >= FAILURES_MIN and self._failures >= FAILED_SHARE_MAX * len(self._outcomes):
            self._open(now_us, PAUSE_S_MIN)

    def abandoned(self, ticket: int) -> None:
        """The request says nothing of the policy. A probe that ends so leaves the next one to be the probe."""
        if ticket == self._ticket and self.state is State.HALF_OPEN:
            self._turn(State.OPEN)

    def _remember(self, now_us: int, *, failed: bool) -> None:
        outcomes = self._outcomes
        while outcomes and (len(outcomes) == WINDOW_OUTCOMES_MAX or now_us - outcomes[0][0] > WINDOW_S * _SECOND_US):
            self._failures -= outcomes.popleft()[1]
        outcomes.append((now_us, failed))
        self._failures += failed

    def _open(self, now_us: int, pause_s: int) -> None:
        self._turn(State.OPEN)
        self._opened_us, self._pause_s = now_us, pause_s

    def _turn(self, state: State) -> None:
        self.state = state
        self._ticket += 1
