"""What can be recommended: for each surface its candidates, from a JSON file.

    {"surfaces": {"home": {"candidate_set_id": "spring", "items": [{"item_id": "a", "score": 1.5, "source": "editors"}]}}}

Items stand in the order of their popularity. `score` is a utility: the log of a Plackett–Luce weight. candidate_set_id, and an
item's score, source and team may be left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from schemas.errors import ConfigurationError


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    item_id: Annotated[str, msgspec.Meta(min_length=1)]
    score: float = 0.0
    source: str | None = None
    team: str | None = None


class Candidates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: Annotated[tuple[Candidate, ...], msgspec.Meta(min_length=1)]
    candidate_set_id: str | None = None


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    surfaces: Annotated[Mapping[str, Candidates], msgspec.Meta(min_length=1)]


def load_catalogue(path: Path) -> Catalogue:
    """Raises ConfigurationError where the file cannot be read or is wrong."""
    try:
        catalogue = msgspec.json.decode(path.read_bytes(), type=Catalogue)
    except OSError as error:
        raise ConfigurationError((f"TAILRACE_CATALOGUE_FILE: {path}: {error.strerror}",)) from error
    except ValueError as error:
        raise ConfigurationError((f"TAILRACE_CATALOGUE_FILE: {path}: {error}",)) from error
    if problems := _repeated(catalogue, path):
        raise ConfigurationError(problems)
    return catalogue


ItemsById = Mapping[str, Mapping[str, Candidate]]
"""By surface."""


def by_item_id(catalogue: Catalogue) -> ItemsById:
    """Each surface's candidates by their item ids. As large as the catalogue: worked out once, and shared by all who judge."""
    return {surface: {item.item_id: item for item in candidates.items} for surface, candidates in catalogue.surfaces.items()}


def _repeated(catalogue: Catalogue, path: Path) -> tuple[str, ...]:
    return tuple(
        f"TAILRACE_CATALOGUE_FILE: {path}: the surface {surface!r} has an item twice"
        for surface, candidates in catalogue.surfaces.items()
        if len({item.item_id for item in candidates.items}) < len(candidates.items)
    )
