"""Where a unit falls: pure functions of salts and ids, the same for ever and in every language.

What is hashed is three texts, (domain, salt, unit), each as its length in bytes (4 bytes, big-endian) and its UTF-8 bytes: no two
different triples give the same bytes. The hash is murmur3 x64 128, seed 0; its first 64 bits, h, give floor(h · n / 2^64), one of
n places. The chances of two places differ by less than n / 2^64: 6e-14 for a million buckets, 2e-10 for arms whose weights sum to
2^31. Domains and salts keep a unit's place in a layer, its arm and its holdback independent. `docs/assignment-vectors.json` holds
vectors for other implementations.

The unit is hashed by its id alone. An experiment has one unit type and salts of its own, so the type would separate nothing
there; within one layer, units of two types with the same id share a bucket, and no more than that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import mmh3

from schemas.events import ExperimentId, UnitId
from schemas.experiment_rules import BUCKETS

LENGTH_BYTES = 4
FIRST_64_BITS = 2**64 - 1


class Domain(StrEnum):
    """What a place is for: the same salt and unit fall independently in each."""

    LAYER = "layer"
    ARM = "arm"
    HOLDBACK = "holdback"


class Reason(StrEnum):
    """Why a layer, or a holdback, has or has not put the unit into an arm. Only ASSIGNED and FORCED come with one."""

    ASSIGNED = "assigned"
    FORCED = "forced"
    """The request named the arm. Such answers are Traffic.FORCED, and no verdict counts them."""
    HOLDBACK = "holdback"
    """The unit is held out of all experiments. The holdback's own assignment says so with its arm."""
    NO_EXPERIMENT = "no_experiment"
    """The unit's bucket belongs to no experiment."""
    NOT_RUNNING = "not_running"
    OTHER_UNIT_TYPE = "other_unit_type"
    OTHER_SURFACE = "other_surface"
    NOT_ELIGIBLE = "not_eligible"
    NO_UNIT = "no_unit"
    """The unit's id is blank: there is nothing to hash."""
    NO_CONFIG = "no_config"
    """No definitions could be read so far."""
    STALE_CONFIG = "stale_config"
    """The definitions are older than they may be, or dated in the future."""
    KILLED = "killed"
    """This host's kill file names the experiment."""
    CANNOT_FORCE = "cannot_force"
    """The request named an experiment or an arm that is not there, or has ended."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and for which surface. `forced` names arms by experiment, for quality assurance."""

    unit_type: str
    unit_id: UnitId
    surface: str
    context: Mapping[str, str]
    forced: Mapping[ExperimentId, str] = field(default_factory=dict)


def framed(text: str) -> bytes:
    """`text` with its length before it. Any text has bytes, half a surrogate pair too."""
    encoded = text.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded


def prefix_of(domain: Domain, salt: str) -> bytes:
    """What stands before the framed unit, worked out once for all units."""
    return framed(domain) + framed(salt)


def fall(prefix: bytes, unit: bytes, places: int) -> int:
    """One of 0 … places - 1, each with the same chance. `unit` is framed."""
    return (mmh3.mmh3_x64_128_uintdigest(prefix + unit, 0) & FIRST_64_BITS) * places >> 64


def place(domain: Domain, salt: str, unit_id: str, places: int) -> int:
    return fall(prefix_of(domain, salt), framed(unit_id), places)


def bucket_of(layer_salt: str, unit_id: str) -> int:
    return place(Domain.LAYER, layer_salt, unit_id, BUCKETS)
