"""The protocol's table as the model runs it: states by number, so that a world stays a tuple of numbers.

Every transition is the answer of an `advance`: the sink's own, or one with a rule broken.
"""

from collections.abc import Callable
from typing import Literal

from stream_processors.warehouse.protocol import Done, Examined, Failed, Outcome, State, Step

Advance = Callable[[State, Outcome], State]
Plain = Literal["done", "failed", "blamed"]

_OUTCOMES: dict[Plain, Outcome] = {"done": Done(), "failed": Failed(), "blamed": Failed(keep_batch=True)}


class Table:
    """`advance`, asked once for each state and outcome."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._numbers: dict[State, int] = {}
        self._after: dict[tuple[int, Plain | tuple[int, int]], int] = {}
        self.states: list[State] = []
        self.steps: list[Step] = []
        self.start = self._number(State())

    def after(self, where: int, outcome: Plain) -> int:
        key = (where, outcome)
        if key not in self._after:
            self._after[key] = self._number(self._advance(self.states[where], _OUTCOMES[outcome]))
        return self._after[key]

    def examined(self, where: int, burials: int, inserts: int) -> int:
        key = (where, (burials, inserts))
        if key not in self._after:
            self._after[key] = self._number(self._advance(self.states[where], Examined(burials, inserts)))
        return self._after[key]

    def _number(self, state: State) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self.states)
            self.states.append(state)
            self.steps.append(state.step)
        return self._numbers[state]
