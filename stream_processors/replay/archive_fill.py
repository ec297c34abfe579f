"""The pieces of a run that come from an archive: owned as any partition is, brought in by the archive's own reading."""

import time
from collections.abc import Callable, Iterator

from schemas.errors import PartUnreachable
from stream_processors.replay.archive_port import Archive
from stream_processors.replay.manifest import Manifest, Piece, PieceSource
from stream_processors.replay.present import present
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.ownership import drain, fence
from stream_processors.warehouse.records import Destination, OffsetRanges, Ownership, Place

TRIES_MAX = 10
"""How often a piece is owned without getting on before the run ends."""
_PAUSE_S = 0.1
_PAUSE_S_MAX = 5.0


def fill_from_archive(
    archive: Archive, writer: ClickHouseWriter, manifest: Manifest, into: Destination, stopped: Callable[[], bool]
) -> int:
    """How many records went in. Raises PartUnreachable where the warehouse does not take them within TRIES_MAX."""
    brought = 0
    for partition, piece in _pieces(manifest):
        if stopped():
            break
        brought += _bring_in(archive, writer, manifest, into, (partition, piece))
    return brought


def _pieces(manifest: Manifest) -> Iterator[tuple[int, Piece]]:
    return ((each.partition, piece) for each in manifest.ranges for piece in each.pieces if piece.source is PieceSource.ARCHIVE)


def _bring_in(
    archive: Archive, writer: ClickHouseWriter, manifest: Manifest, into: Destination, wanted: tuple[int, Piece]
) -> int:
    partition, piece = wanted
    place = Place(manifest.topic, partition)
    for attempt in range(1, TRIES_MAX + 1):
        try:
            owner = fence(writer, manifest.topic_id, place, into)
            drain(writer, into.write_comment(manifest.topic_id, partition))
            here = present(writer, manifest.run, manifest.run_table, manifest.topic_id, partition).ranges
            missing = next(iter(here.missing(piece.first, piece.end)), None)
            if missing is None:
                return 0
            ownership = Ownership(place, manifest.topic_id, owner, missing[0], OffsetRanges([(0, missing[0]), *here]))
            return archive.insert(writer, manifest, ownership, piece.end)
        except Retryable as trouble:
            if attempt == TRIES_MAX or trouble.needs_somebody:
                remedy = f"tried {attempt} times; run it again, what is in stays in ({trouble})"
                raise PartUnreachable(f"the partition {place}", "the warehouse", remedy) from trouble
            time.sleep(min(_PAUSE_S_MAX, _PAUSE_S * 2**attempt))
    raise AssertionError("the last try returns or raises")
