"""Who may ask for which surface: API keys, known by their SHA-256 digests, from a JSON file.

    {"keys": [{"name": "shop", "sha256": "9f86d081…", "surfaces": ["home"], "qa": true}]}

A key without `surfaces` may ask for all of them; one with `qa` may force arms. Without a file everybody may ask for everything,
and nobody may force an arm. `printf %s KEY | sha256sum` makes a digest.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from schemas.errors import ConfigurationError
from schemas.events import ExperimentId
from serving_worker.errors import ApiError

BEARER = "bearer "


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`surfaces` None stands for all of them."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    surfaces: frozenset[str] | None = None
    qa: bool = False


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[Sequence[ApiKey], msgspec.Meta(min_length=1)]


ANYBODY = ApiKey("", "")


class Keys:
    def __init__(self, keys: Sequence[ApiKey] | None) -> None:
        """None stands for an interface that is open to everybody."""
        self._by_digest = None if keys is None else {key.sha256: key for key in keys}

    @property
    def required(self) -> bool:
        return self._by_digest is not None

    def of(self, authorization: str | None) -> ApiKey:
        """The key that an Authorization header carries. Raises ApiError where it is none of ours."""
        if self._by_digest is None:
            return ANYBODY
        if authorization is None or authorization[: len(BEARER)].lower() != BEARER:
            raise ApiError(401, "key_missing", "the header should be `Authorization: Bearer <key>`", "Authorization")
        digest = hashlib.sha256(authorization[len(BEARER) :].strip().encode()).hexdigest()
        key = self._by_digest.get(digest)
        if key is None:
            raise ApiError(401, "key_unknown", "there is no such key", "Authorization")
        return key


def refuse_surface(key: ApiKey, surface: str) -> None:
    """Raises ApiError where `key` may not ask for `surface`."""
    if key.surfaces is not None and surface not in key.surfaces:
        raise ApiError(403, "surface_forbidden", f"the key {key.name!r} may not ask for the surface {surface!r}", "surface")


def refuse_forcing(key: ApiKey, forced: Mapping[ExperimentId, str]) -> None:
    """Raises ApiError where `key` may not force arms, and some are."""
    if forced and not key.qa:
        raise ApiError(403, "forcing_forbidden", f"the key {key.name!r} may not force arms", "forced_arms")


def load_keys(path: Path | None) -> Keys:
    """Raises ConfigurationError where the file cannot be read or is wrong."""
    if path is None:
        return Keys(None)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
    except OSError as error:
        raise ConfigurationError((f"TAILRACE_API_KEYS_FILE: {path}: {error.strerror}",)) from error
    except ValueError as error:
        raise ConfigurationError((f"TAILRACE_API_KEYS_FILE: {path}: {error}",)) from error
    if problems := _repeated(file.keys, path):
        raise ConfigurationError(problems)
    return Keys(file.keys)


def _repeated(keys: Sequence[ApiKey], path: Path) -> tuple[str, ...]:
    names, digests = Counter(key.name for key in keys), Counter(key.sha256 for key in keys)
    twice = [f"the name {name!r}" for name, times in names.items() if times > 1]
    twice += [f"the digest {digest[:8]}…" for digest, times in digests.items() if times > 1]
    return tuple(f"TAILRACE_API_KEYS_FILE: {path}: {what} is there twice" for what in twice)
