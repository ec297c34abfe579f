"""The replay beside other owners of its partition, and with answers that get lost: each letter is in once."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from schemas.errors import PartUnreachable
from schemas.events import DeadLetter
from stream_processors.dead_letters.examiner import Examiner
from stream_processors.dead_letters.replay import TRIES_MAX, Repair, Replay, Result
from stream_processors.dead_letters.store import LetterSummary, StoredLetter
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import NoAnswer
from stream_processors.warehouse.ownership import fence
from stream_processors.warehouse.records import Place, Route
from stream_processors.warehouse.writer_schemas import WriterSchemas
from tests.stream_processors.warehouse_fixture import Bench, interactions

pytestmark = pytest.mark.integration

TOPIC_ID = UUID(int=77)
DAY_MS = 86_400_000


class Contested(ClickHouseWriter):
    """The real warehouse, in which another owner takes the partition just before an insert, or an answer is lost after it."""

    def __init__(self, url: str, place: Place) -> None:
        super().__init__(url, {}, 1000)
        self.place = place
        self.thefts = self.losses = 0

    def insert(self, table: str, columns: tuple[str, ...], container: bytes, comment: str) -> None:
        ours = table == "interactions"
        if ours and self.thefts:
            self.thefts -= 1
            fence(self, TOPIC_ID, self.place)
        super().insert(table, columns, container, comment)
        if ours and self.losses:
            self.losses -= 1
            raise NoAnswer("the answer was lost")


@pytest.fixture
def writer(bench: Bench) -> Iterator[Contested]:
    contested = Contested(bench.environment["TAILRACE_WAREHOUSE_URL"], Place(bench.topic(), 2))
    yield contested
    contested.close()


@pytest.fixture
def replay(bench: Bench, writer: Contested) -> Iterator[Replay]:
    schemas = WriterSchemas(bench.environment["TAILRACE_REGISTRY_URL"])
    routes = {bench.topic(): Route("Interaction", "interactions")}
    yield Replay(writer, Examiner(writer, schemas, lambda: b"s" * 16), routes, lambda: b"s" * 16, lambda: 0.0)
    schemas.close()


def repairs(bench: Bench, count: int) -> list[Repair]:
    """Over three days, so that one chunk takes three inserts."""
    found = []
    for offset, value in enumerate(interactions(bench, count)):
        time_ms = 1_795_424_805_626 + DAY_MS * (offset % 3)
        summary = LetterSummary(TOPIC_ID, Place(bench.topic(), 2), offset, time_ms, 1, "datum", "", 0, repaired=False)
        letter = DeadLetter(topic=bench.topic(), key=None, value=value + b"!", headers=(), reason="datum", error="")
        found.append(Repair(StoredLetter(summary, letter), value))
    return found


def results(replay: Replay, repairs: list[Repair]) -> list[Result]:
    return [verdict.result for verdicts in replay.replay(repairs, dry_run=False) for verdict in verdicts]


def test_another_owner_that_comes_in_between_is_waited_out(bench: Bench, replay: Replay, writer: Contested) -> None:
    writer.thefts = 3

    assert results(replay, repairs(bench, 30)) == [Result.REPLAYED] * 30
    assert bench.counts() == (30, 30)
    assert writer.thefts == 0


def test_an_answer_that_is_lost_brings_nothing_in_twice(bench: Bench, replay: Replay, writer: Contested) -> None:
    writer.losses = 2

    assert results(replay, repairs(bench, 30)) == [Result.REPLAYED] * 30
    assert bench.counts() == (30, 30)
    assert results(replay, repairs(bench, 31)) == [*[Result.ALREADY_IN] * 30, Result.REPLAYED]
    assert bench.counts() == (31, 31)


def test_a_partition_that_cannot_be_owned_ends_the_replay_which_goes_on_where_it_was(
    bench: Bench, replay: Replay, writer: Contested
) -> None:
    writer.losses = 1
    writer.thefts = 0
    letters = repairs(bench, 30)
    assert results(replay, letters[:10]) == [Result.REPLAYED] * 10
    writer.thefts = TRIES_MAX

    with pytest.raises(PartUnreachable, match="run the replay again"):
        results(replay, letters)

    assert bench.counts() == (10, 10)
    assert results(replay, letters) == [*[Result.ALREADY_IN] * 10, *[Result.REPLAYED] * 20]
    assert bench.counts() == (30, 30)
    assert bench.rows("SELECT DISTINCT _run FROM interactions") == [("repaired",)]
