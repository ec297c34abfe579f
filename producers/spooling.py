"""What a dispatch needs of a spool, and what it counts."""

from dataclasses import dataclass

from producers.config import Durability
from producers.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Spooling:
    """A spool, what for, and how fast it is emptied."""

    spool: Spool
    durability: Durability
    drain_events_s: int


@dataclass(slots=True)
class DispatchCounters:
    """Only the courier writes them; metrics read them."""

    transport_full: int = 0
    transport_renewals: int = 0
    checkpoints_lost: int = 0
    diversions: int = 0
    drained: int = 0
    adopted_lost: int = 0
    diverted: bool = False
    """Whether events go to disk first, now."""
