"""A spool, and how an emitter uses it."""

from dataclasses import dataclass

from producers.config import Durability
from producers.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Spooling:
    """A spool, what for, and how fast it is emptied."""

    spool: Spool
    durability: Durability
    drain_events_s: int
