"""Repaired dead letters into their tables, each once and at its original coordinates.

Everything is examined before anything is written. Then the replay owns one partition after the other as the sink does: fence,
drain, look which of the coordinates the table has, insert the others, one insert at a time. After an answer that is not clean it
owns again and looks again. So it is exactly once for the sink's own reasons (DESIGN.md, "The sink"), and may be killed anywhere
and run again. A live sink is only shut out for a moment: its next insert is refused, it owns again and goes on, and leaves these
coordinates alone because their dead letters stay.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from uuid import UUID

from schemas.envelope import Source
from schemas.errors import PartUnreachable
from stream_processors.dead_letters.examiner import Examiner, Insertable
from stream_processors.dead_letters.store import REPAIRED_RUN, Coordinates, StoredLetter
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.ownership import drain, fence
from stream_processors.warehouse.records import LIVE, Place, Route
from stream_processors.warehouse.splice import splice

TRIES_MAX = 12
"""How often a partition is owned for some letters before the replay gives up: a live sink may own it again in between."""
PAUSE_S_MAX = 2.0
_PAUSE_S = 0.05
CHUNK_LETTERS_MAX = 500

_PRESENT = """
SELECT DISTINCT _offset FROM {table}
WHERE _topic_id = {{topic_id:UUID}} AND _partition = {{partition:Int32}} AND _offset IN {{offsets:Array(Int64)}}
FORMAT TabSeparated
"""


class Result(StrEnum):
    """What became of a dead letter."""

    REPLAYED = "replayed"
    WOULD_REPLAY = "would_replay"
    """A dry run found nothing against it."""
    ALREADY_IN = "already_in"
    STILL_POISON = "still_poison"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` and `error` say what stands against a letter that is still poison."""

    coordinates: Coordinates
    result: Result
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """A dead letter with the value that it is to have: its own, where the world was mended and not the bytes. A `Message`."""

    stored: StoredLetter
    mended: bytes | None

    def __len__(self) -> int:
        return len(self.mended or b"")

    def topic(self) -> str:
        return self.stored.letter.topic

    def partition(self) -> int:
        return self.stored.summary.place.partition

    def offset(self) -> int:
        return self.stored.summary.offset

    def timestamp(self) -> tuple[int, int]:
        return 2, self.stored.summary.kafka_time_ms

    def key(self) -> bytes | None:
        return self.stored.letter.key

    def value(self) -> bytes | None:
        return self.mended

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return [(header.name, header.value) for header in self.stored.letter.headers]

    def error(self) -> None:
        """It was consumed well."""


@dataclass(frozen=True, slots=True)
class _Target:
    """One partition of a topic, which may not exist any more, and the table that its records go to."""

    topic_id: UUID
    place: Place
    table: str


class Replay:
    """Raises PartUnreachable where the parts do not let it own a partition and write within TRIES_MAX."""

    def __init__(
        self,
        writer: ClickHouseWriter,
        examiner: Examiner,
        routes: Mapping[str, Route],
        new_sync: Callable[[], bytes],
        spread: Callable[[], float],
    ) -> None:
        self._writer, self._examiner, self._routes = writer, examiner, routes
        self._new_sync, self._spread = new_sync, spread

    def replay(self, repairs: Sequence[Repair], *, dry_run: bool) -> Iterator[list[Verdict]]:
        """What becomes of each, some at a time: what has its verdict is done with, also if the rest never comes."""
        for (topic_id, place), group in groupby(sorted(repairs, key=_position), key=_partition_of):
            letters = list(group)
            route = self._routes.get(place.topic)
            for first in range(0, len(letters), CHUNK_LETTERS_MAX):
                chunk = letters[first : first + CHUNK_LETTERS_MAX]
                if route is None:
                    yield [_poison(each, "no_route", f"{place.topic} is no topic of this installation") for each in chunk]
                else:
                    yield self._chunk(chunk, _Target(topic_id, place, route.table), route, dry_run=dry_run)

    def _chunk(self, repairs: list[Repair], target: _Target, route: Route, *, dry_run: bool) -> list[Verdict]:
        present = self._present(target, [repair.offset() for repair in repairs])
        absent = [repair for repair in repairs if repair.offset() not in present]
        accepted, objections = self._examiner.examine(absent, route)
        if accepted and not dry_run:
            self._bring_in(accepted, target)
        against = {objection.offset: objection for objection in objections}
        good = Result.WOULD_REPLAY if dry_run else Result.REPLAYED
        verdicts = []
        for repair in repairs:
            if (objection := against.get(repair.offset())) is not None:
                verdicts.append(_poison(repair, objection.reason, objection.error))
            else:
                verdicts.append(_verdict(repair, Result.ALREADY_IN if repair.offset() in present else good))
        return verdicts

    def _bring_in(self, groups: Sequence[Insertable], target: _Target) -> None:
        """Own and insert, and again after any answer that is not clean."""
        for attempt in range(1, TRIES_MAX + 1):
            try:
                self._own_and_insert(groups, target)
            except Retryable as trouble:
                if attempt == TRIES_MAX:
                    remedy = f"tried {TRIES_MAX} times; run the replay again, what is in stays in ({trouble})"
                    raise PartUnreachable(f"the partition {target.place}", "the warehouse", remedy) from trouble
                time.sleep(min(PAUSE_S_MAX, _PAUSE_S * 2**attempt) * self._spread())
            else:
                return

    def _own_and_insert(self, groups: Sequence[Insertable], target: _Target) -> None:
        owner = fence(self._writer, target.topic_id, target.place)
        comment = LIVE.write_comment(target.topic_id, target.place.partition)
        drain(self._writer, comment)
        present = self._present(target, [message.offset() for group in groups for message in group.messages])
        for writer, messages in groups:
            missing = [message for message in messages if message.offset() not in present]
            if missing:
                source = Source(owner, target.topic_id, target.place.partition, writer.schema_id, REPAIRED_RUN)
                container = splice(writer.header, source, missing, self._new_sync())
                self._writer.insert(target.table, writer.columns, container, comment)

    def _present(self, target: _Target, offsets: Sequence[int]) -> set[int]:
        """Which of the coordinates the table has."""
        listed = f"[{','.join(map(str, offsets))}]"
        coordinates = {"topic_id": str(target.topic_id), "partition": str(target.place.partition), "offsets": listed}
        return {int(line) for line in self._writer.query(_PRESENT.format(table=target.table), coordinates).split()}


def _position(repair: Repair) -> tuple[str, int, int]:
    return str(repair.stored.summary.topic_id), repair.partition(), repair.offset()


def _partition_of(repair: Repair) -> tuple[UUID, Place]:
    return repair.stored.summary.topic_id, repair.stored.summary.place


def _verdict(repair: Repair, result: Result) -> Verdict:
    return Verdict(repair.stored.summary.coordinates, result)


def _poison(repair: Repair, reason: str, error: str) -> Verdict:
    return Verdict(repair.stored.summary.coordinates, Result.STILL_POISON, reason, error)
