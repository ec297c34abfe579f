"""The steps of a run as they pass: told when they end, with their seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run."""

    name: str
    seconds: float


class Stages:
    """`clock_s` is monotonic; `tell` gets one line at the end of each stage."""

    def __init__(self, clock_s: Callable[[], float], tell: Callable[[str], None]) -> None:
        self._clock_s, self.tell, self._started_s = clock_s, tell, clock_s()
        self._ended: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started_s = self._clock_s()
        yield
        ended = Stage(name, round(self._clock_s() - started_s, 3))
        self._ended.append(ended)
        self.tell(f"{ended.seconds:5.1f} s  {name}")

    @property
    def ended(self) -> tuple[Stage, ...]:
        return tuple(self._ended)

    @property
    def seconds(self) -> float:
        """Since the first stage could begin."""
        return round(self._clock_s() - self._started_s, 3)
