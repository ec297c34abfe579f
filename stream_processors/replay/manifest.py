"""What a run is to do, fixed when it was planned: which offsets, from where, into what. Values; JSON in and out.

A manifest never changes. Its JSON is canonical (sorted names, no blanks), so the same manifest has the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from schemas.envelope import RUN_BYTES_MAX


class PieceSource(StrEnum):
    KAFKA = "kafka"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Piece:
    """Offsets [first, end) of a partition, and where they are read."""

    source: PieceSource
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Offsets [first, end) that were asked for and that nobody has."""

    first: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """Of one partition [first, end), in pieces by where they are read, in order; `missing` lies within as well."""

    partition: int
    first: int
    end: int
    pieces: tuple[Piece, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def offsets(self) -> int:
        """How many can be read."""
        return sum(piece.end - piece.first for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person who planned the run typed."""

    first: str
    end: str
    source: str = "kafka"
    allow_missing: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """At most so many rows; their bytes in Kafka, and how long it will take, as far as samples and earlier runs tell."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Transform:
    """A Python function, as `module:function`, and the sum of the file that it stood in at planning."""

    function: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`table` is the live table; `table_sha256` the sum of its definition; `select` an SQL select list."""

    run: str
    topic: str
    topic_id: UUID
    record: str
    table: str
    ranges: tuple[PartitionRange, ...]
    asked: Asked
    schema_ids: tuple[int, ...]
    table_sha256: str
    code: str
    estimate: Estimate
    select: str | None = None
    transform: Transform | None = None
    archive: str | None = None
    """Where the archive is, as a URL without secrets."""
    derive: str | None = None
    """The SQL of a derived table that is filled from this run."""

    def __post_init__(self) -> None:
        assert len(self.run.encode()) <= RUN_BYTES_MAX, f"the run {self.run!r} is longer than {RUN_BYTES_MAX} bytes"

    @property
    def run_table(self) -> str:
        return run_table(self.run)

    @property
    def plain(self) -> bool:
        """Whether the run's rows are to be those of the live table: nothing is computed on the way."""
        return self.select is None and self.transform is None

    @property
    def offsets(self) -> int:
        """How many can be read; transaction markers and what was compacted are among them."""
        return sum(each.offsets for each in self.ranges)

    @property
    def missing(self) -> int:
        return sum(gap.end - gap.first for each in self.ranges for gap in each.missing)

    def as_fields(self) -> dict[str, Any]:
        return {**asdict(self), "topic_id": str(self.topic_id)}

    def as_json(self) -> str:
        return json.dumps(self.as_fields(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        fields: dict[str, Any] = json.loads(text)
        transform = fields.pop("transform")
        return cls(
            topic_id=UUID(fields.pop("topic_id")),
            ranges=tuple([_range(each) for each in fields.pop("ranges")]),
            asked=Asked(**fields.pop("asked")),
            schema_ids=tuple(fields.pop("schema_ids")),
            estimate=Estimate(**fields.pop("estimate")),
            transform=None if transform is None else Transform(**transform),
            **fields,
        )


def run_table(run: str) -> str:
    """The name of the table that takes a run's rows."""
    return f"replay_{run.replace('-', '_')}"


def _range(fields: Mapping[str, Any]) -> PartitionRange:
    return PartitionRange(
        fields["partition"],
        fields["first"],
        fields["end"],
        tuple([Piece(PieceSource(piece["source"]), piece["first"], piece["end"]) for piece in fields["pieces"]]),
        tuple([Missing(**gap) for gap in fields["missing"]]),
    )
