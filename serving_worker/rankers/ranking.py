"""What a ranker is given and gives: the protocol of plug-ins."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from serving_worker.catalogue import Candidate, Candidates


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a ranker. `parameters` are those of the arm, `context` is the request's, whole."""

    surface: str
    k: int
    unit_type: str = "user"
    unit_id: str = ""
    session_id: str | None = None
    context: Mapping[str, str] = {}
    parameters: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chosen item. `propensity` is P(item | context, items above it), None where it is not known.

    `score` is the ranker's own, None where the catalogue's is meant.
    """

    candidate: Candidate
    propensity: float | None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """`log_propensity` is the log of the chance of the whole slate, in its order."""

    ranked: tuple[Ranked, ...]
    log_propensity: float | None


class Ranker(Protocol):
    """Made without arguments, once for each process. All chance comes from `draw`, so that an answer can be drawn again."""

    @property
    def version(self) -> str: ...

    def rank(self, candidates: Candidates, query: Query, draw: random.Random) -> Ranking:
        """The best `query.k` of the candidates, or all of them where they are fewer. No item twice.

        Raises RankerError.
        """
        ...
