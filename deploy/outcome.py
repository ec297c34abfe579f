"""What provisioning did, and what an examination found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was made in one part, and what differs there from what is wanted and was left as it is."""

    part: str
    made: tuple[str, ...]
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, where, what to do."""

    what: str
    where: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    problems: Sequence[Problem]
