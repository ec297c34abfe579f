"""Ranges of numbers (offsets of a partition, sequence numbers of a producer) as streams. Pure.

Streams are sorted, their spans apart, and taken once: memory does not grow with the numbers, nor with the number of spans.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SPANS_SHOWN_MAX = 20
"""Of each verdict so many spans are kept to be shown; all are counted."""


class Span(NamedTuple):
    """Half-open: [first, end)."""

    first: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.first

    def __str__(self) -> str:
        return str(self.first) if self.size == 1 else f"{self.first}–{self.end - 1}"


def joined(spans: Iterable[Span]) -> Iterator[Span]:
    """The same numbers from sorted spans that may touch, overlap or be empty."""
    held: Span | None = None
    for span in spans:
        if span.size <= 0:
            continue
        if held is not None and span.first <= held.end:
            held = Span(held.first, max(held.end, span.end))
            continue
        if held is not None:
            yield held
        held = span
    if held is not None:
        yield held


def cut(spans: Iterable[Span], borders: Sequence[int]) -> Iterator[Span]:
    """The same numbers, so that no span lies on both sides of a border."""
    inner = sorted(borders)
    for span in spans:
        first = span.first
        for border in inner:
            if first < border < span.end:
                yield Span(first, border)
                first = border
        yield Span(first, span.end)


def parted(span: Span, known: Sequence[Span]) -> Iterator[tuple[Span, bool]]:
    """`span` in pieces, each with whether it is in `known` (sorted, apart)."""
    first = span.first
    for other in known:
        start, end = max(first, other.first), min(span.end, other.end)
        if start >= end:
            continue
        if first < start:
            yield Span(first, start), False
        yield Span(start, end), True
        first = end
    if first < span.end:
        yield Span(first, span.end), False


@dataclass(frozen=True, slots=True)
class Spans:
    """How many numbers, and the first SPANS_SHOWN_MAX of their spans."""

    count: int = 0
    shown: tuple[Span, ...] = ()

    def __str__(self) -> str:
        seen = ", ".join(map(str, self.shown))
        return seen if sum(span.size for span in self.shown) == self.count else f"{seen}, …"


class Tally:
    """Counts spans as they come, in order."""

    __slots__ = ("_count", "_shown")

    def __init__(self) -> None:
        self._count = 0
        self._shown: list[Span] = []

    def add(self, span: Span) -> None:
        self._count += span.size
        if self._shown and self._shown[-1].end == span.first:
            self._shown[-1] = Span(self._shown[-1].first, span.end)
        elif len(self._shown) < SPANS_SHOWN_MAX:
            self._shown.append(span)

    def spans(self) -> Spans:
        return Spans(self._count, tuple(self._shown))
