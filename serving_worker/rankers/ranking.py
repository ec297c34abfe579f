"""What a ranker is given and gives."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serving_worker.catalogue import Candidate, Candidates


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chosen item. `propensity` is P(item | context, items above it), None where it is not known."""

    candidate: Candidate
    propensity: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """`log_propensity` is the log of the chance of the whole slate, in its order."""

    ranked: tuple[Ranked, ...]
    log_propensity: float | None


class Ranker(Protocol):
    @property
    def version(self) -> str: ...

    def rank(self, candidates: Candidates, k: int, parameters: Mapping[str, str], draw: random.Random) -> Ranking:
        """The best `k` of the candidates, or all of them where they are fewer.

        Raises RankerError.
        """
        ...
