"""Which rows a table is to hold on the days that a run touches: those that are given, and those of the live table that stay.

Pure: conditions in SQL over a row's own columns. Whose a coordinate is follows from the run's offsets alone, so the boundary
between a run and the live stream is an offset, owned by one side. Nothing that Kafka acknowledged is ever in neither: where a
run has only a dead letter, or could not read, the live row stays; a rollback leaves what the run brought past the live stream's
committed offset, because the live stream has passed over it since.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stream_processors.replay.manifest import Manifest

COORDINATES = "_topic_id, _partition, _offset"


@dataclass(frozen=True, slots=True)
class Blend:
    """No two of these are true of one row."""

    given: str
    """The table that gives rows."""
    gives: str
    """Which of its rows."""
    stays: str
    """Which rows of the live table stay, whatever is given."""
    contested: str
    """Which rows of the live table stay where nothing is given at their coordinates."""

    @property
    def may_stay(self) -> str:
        return f"(({self.stays}) OR ({self.contested}))"


def swapped_in(manifest: Manifest) -> Blend:
    """The run's rows, all of them; beside them the live rows outside its offsets, and where it has only dead letters."""
    stays = f"NOT {_reads(manifest)} OR {_buried(manifest)}"
    return Blend(manifest.run_table, "1", stays, "0")


def rolled_back(manifest: Manifest, kept: str, committed: Mapping[int, int]) -> Blend:
    """The live rows as they were before the swap, beside what has come since. `committed` is as it was then, by partition."""
    own, buried = _reads(manifest), _buried(manifest)
    beyond = _any(f"_partition = {each.partition} AND _offset >= {committed.get(each.partition, 0)}" for each in manifest.ranges)
    return Blend(
        given=kept,
        gives=f"{own} AND NOT {buried}",
        stays=f"NOT {own} OR {buried}",
        contested=f"{own} AND NOT {buried} AND (_run != '{manifest.run}' OR {beyond})",
    )


def _reads(manifest: Manifest) -> str:
    """Whether a coordinate is among those that the run reads."""
    pieces = _any(
        f"_partition = {each.partition} AND _offset >= {piece.first} AND _offset < {piece.end}"
        for each in manifest.ranges
        for piece in each.pieces
    )
    return f"(_topic_id = toUUID('{manifest.topic_id}') AND {pieces})"


def _buried(manifest: Manifest) -> str:
    return f"(({COORDINATES}) IN (SELECT {COORDINATES} FROM replay_dead_letters WHERE _run = '{manifest.run}'))"  # noqa: S608


def _any(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(f'({each})' for each in conditions) or '0'})"
