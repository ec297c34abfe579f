"""Where a stretch of a topic begins or ends, as a person says it. Pure: the time comes in.

A time (2026-01-31T12:00, in UTC unless it says otherwise), an age (90s, 30m, 24h, 7d), an offset of every partition (1500),
offsets of some partitions (0:1500,2:90), or `beginning` and `end`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from stream_processors.replay.errors import WrongQuestion

BEGINNING, END = "beginning", "end"

_AGE = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OFFSET = re.compile(r"\d+")
_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")


@dataclass(frozen=True, slots=True)
class At:
    """Kafka's time of arrival."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class Offset:
    """Of every partition."""

    offset: int


@dataclass(frozen=True, slots=True)
class Offsets:
    """Of these partitions; others are left alone."""

    by_partition: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Edge:
    """The log's own beginning or end."""

    is_end: bool


Bound = At | Offset | Offsets | Edge


def bound_of(text: str, option: str, now_ms: int) -> Bound:
    """Raises WrongQuestion where `text` is none of these, or lies in the future."""
    if text in {BEGINNING, END}:
        return Edge(text == END)
    if _OFFSETS.fullmatch(text):
        return _offsets(text, option)
    if _OFFSET.fullmatch(text):
        return Offset(int(text))
    if age := _AGE.fullmatch(text):
        return At(now_ms - int(age[1]) * _SECONDS[age[2]] * 1000)
    return At(_past(_time_ms(text, option), text, option, now_ms))


def refuse_reversed(first: Bound, end: Bound) -> None:
    """Raises WrongQuestion for two times, or two offsets, of which the first is not before the end."""
    match first, end:
        case At(first_ms), At(end_ms) if first_ms >= end_ms:
            raise WrongQuestion("--from is not before --to: the stretch is empty or reversed")
        case Offset(first_offset), Offset(end_offset) if first_offset >= end_offset:
            raise WrongQuestion(f"--from {first_offset} is not before --to {end_offset}: the end is the offset after the last")
        case Offsets(firsts), Offsets(ends) if firsts.keys() != ends.keys():
            raise WrongQuestion(f"--from names the partitions {sorted(firsts)}, --to names {sorted(ends)}: name the same")
        case Edge(is_end=True), _:
            raise WrongQuestion("--from end: nothing lies behind the end")
        case _, Edge(is_end=False):
            raise WrongQuestion("--to beginning: nothing lies before the beginning")
        case _:
            return


def chosen(first: Bound, end: Bound) -> frozenset[int] | None:
    """The partitions that are named, None for all."""
    named = [bound.by_partition.keys() for bound in (first, end) if isinstance(bound, Offsets)]
    return frozenset(named[0]) if named else None


def _offsets(text: str, option: str) -> Offsets:
    pairs = [(int(partition), int(offset)) for partition, offset in (pair.split(":") for pair in text.split(","))]
    if len(dict(pairs)) < len(pairs):
        raise WrongQuestion(f"{option} {text}: a partition is named twice")
    return Offsets(dict(pairs))


def _time_ms(text: str, option: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongQuestion(
            f"{option} {text!r} is no time (2026-01-31T12:00), age (24h), offset (1500), offsets of partitions (0:1500,2:90),"
            " beginning or end"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _past(time_ms: int, text: str, option: str, now_ms: int) -> int:
    if time_ms > now_ms:
        remedy = "leave --to out for all there is now" if option == "--to" else "only what has arrived can be replayed"
        raise WrongQuestion(f"{option} {text} is in the future: {remedy}")
    return time_ms
