"""The Avro contracts: which versions of which record exist, and which of them are released, so frozen.

A version is the file `avro/<Record>.v<n>.avsc`. `avro/released.json` maps the released files to the SHA-256 sum of their bytes.
"""

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from schemas.errors import ContractError

AVRO_DIRECTORY = Path(__file__).parent / "avro"

_FILE_NAME = re.compile(r"(?P<record>[A-Z]\w*)\.v(?P<version>[1-9]\d*)\.avsc")

AvroSchema = dict[str, Any]


@dataclass(frozen=True)
class Version:
    """One version of a record's schema."""

    record: str
    number: int
    path: Path
    released: bool

    @cached_property
    def schema(self) -> AvroSchema:
        try:
            parsed = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ContractError(f"{self.path.name}: not JSON: {error}") from error
        if not isinstance(parsed, dict) or parsed.get("type") != "record" or parsed.get("name") != self.record:
            raise ContractError(f"{self.path.name}: not an Avro record named {self.record}")
        return parsed

    @cached_property
    def text(self) -> str:
        """The schema as it is registered: one line of JSON, the same for the same schema."""
        return json.dumps(self.schema, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Contract:
    """All versions of one record, the oldest first. Records are written under the newest."""

    record: str
    versions: tuple[Version, ...]

    @property
    def newest(self) -> Version:
        return self.versions[-1]


def load_contracts(directory: Path = AVRO_DIRECTORY) -> dict[str, Contract]:
    """Every contract below `directory`, by record name.

    Raises ContractError where a released file has changed or is gone, or the numbers have a gap.
    """
    released = _released_sums(directory)
    _refuse_changed(directory, released)
    versions: dict[str, list[Version]] = defaultdict(list)
    for path in sorted(directory.glob("*.avsc")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ContractError(f"{path.name}: a schema file is named <Record>.v<number>.avsc")
        version = Version(match["record"], int(match["version"]), path, path.name in released)
        versions[version.record].append(version)
    return {record: _contract(record, found) for record, found in versions.items()}


def contract(record: str) -> Contract:
    """The packaged contract of `record`."""
    return load_contracts()[record]


def release(directory: Path = AVRO_DIRECTORY) -> list[str]:
    """Freeze every version that is not released yet, and say which. Whoever calls it has asked the gate first."""
    contracts = load_contracts(directory)
    fresh = [version.path for found in contracts.values() for version in found.versions if not version.released]
    sums = {**_released_sums(directory), **{path.name: _sum(path) for path in fresh}}
    text = json.dumps(sums, indent=2, sort_keys=True) + "\n"
    (directory / "released.json").write_text(text, encoding="utf-8")
    return sorted(path.name for path in fresh)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _contract(record: str, found: list[Version]) -> Contract:
    ordered = tuple(sorted(found, key=lambda version: version.number))
    numbers = [version.number for version in ordered]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ContractError(f"{record}: versions {numbers} should run 1, 2, 3 … without a gap")
    return Contract(record, ordered)


def _released_sums(directory: Path) -> dict[str, str]:
    try:
        sums: dict[str, str] = json.loads((directory / "released.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContractError(f"{directory / 'released.json'}: {error}") from error
    return sums


def _refuse_changed(directory: Path, released: dict[str, str]) -> None:
    for name, expected in released.items():
        path = directory / name
        if not path.exists():
            raise ContractError(f"{name}: a released schema is gone; released versions stay for ever")
        if _sum(path) != expected:
            raise ContractError(f"{name}: a released schema has changed; add a new version instead")
