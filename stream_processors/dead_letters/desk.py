"""Composition root of the commands about dead letters: what is chosen by a person, found, mended and replayed."""

import random
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.contracts import contract
from schemas.environment import Environment, public_address
from schemas.errors import DatumError, PartUnreachable
from schemas.tables import TABLE_OF_RECORD
from schemas.topics import DEFAULT_PREFIX, TOPICS, Topic, subject, topic_name
from stream_processors.dead_letters.examiner import Examiner
from stream_processors.dead_letters.replay import Repair, Replay, Result, Verdict
from stream_processors.dead_letters.store import PAGE_LETTERS_MAX, Choice, Coordinates, DeadLetterStore, StoredLetter
from stream_processors.dead_letters.view import Fields, as_json, as_text, coordinates_of, read_fields, repaired_value
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.records import Route
from stream_processors.warehouse.splice import SYNC_BYTES
from stream_processors.warehouse.writer_schemas import WriterSchemas


@dataclass(frozen=True, slots=True)
class DeskConfig:
    """Where the table of dead letters and the registry are. Kafka is not asked: a letter has its coordinates."""

    registry_url: str
    warehouse_url: str = field(repr=False)
    topic_prefix: str
    warehouse_options: Mapping[str, str]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "DeskConfig":
        """Raises ConfigurationError that names every wrong setting."""
        read = Environment(variables)
        config = cls(
            registry_url=read.url("TAILRACE_REGISTRY_URL"),
            warehouse_url=read.url("TAILRACE_WAREHOUSE_URL"),
            topic_prefix=read.text("TAILRACE_TOPIC_PREFIX", DEFAULT_PREFIX),
            warehouse_options=read.options("TAILRACE_WAREHOUSE_OPTIONS"),
        )
        read.refuse_problems()
        return config


class Mended(NamedTuple):
    """What can be replayed, what cannot and why, and what somebody should know."""

    repairs: list[Repair]
    refused: list[Verdict]
    warnings: list[str]


class DeadLetterDesk:
    """Raises Retryable where a part does not answer as it should, PartUnreachable where it is not there."""

    def __init__(self, config: DeskConfig) -> None:
        self._config = config
        self._topics = {topic_name(config.topic_prefix, topic): topic for topic in TOPICS if topic.record in TABLE_OF_RECORD}
        with ExitStack() as parts:
            writer = ClickHouseWriter(config.warehouse_url, config.warehouse_options, PAGE_LETTERS_MAX)
            parts.callback(writer.close)
            self._schemas = WriterSchemas(config.registry_url)
            parts.callback(self._schemas.close)
            self.store = DeadLetterStore(writer)
            spread = random.Random().random  # noqa: S311 - keeps tries apart, decides nothing
            examiner = Examiner(writer, self._schemas, _new_sync)
            routes = {name: Route.of(topic) for name, topic in self._topics.items()}
            self._replay = Replay(writer, examiner, routes, _new_sync, spread)
            self._newest: dict[str, int] = {}
            self._parts = parts.pop_all()

    def close(self) -> None:
        self._parts.close()

    def found(self, coordinates: Iterable[Coordinates]) -> Iterator[tuple[Coordinates, list[StoredLetter]]]:
        """The letters at each of these: none, one, or one for each topic that had the name."""
        offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
        for topic, partition, offset in coordinates:
            offsets[topic, partition].append(offset)
        for (topic, partition), wanted in offsets.items():
            for first in range(0, len(wanted), PAGE_LETTERS_MAX):
                some = wanted[first : first + PAGE_LETTERS_MAX]
                letters = self.store.at(topic, partition, some)
                for offset in some:
                    yield Coordinates(topic, partition, offset), [each for each in letters if each.summary.offset == offset]

    def json_of(self, stored: StoredLetter) -> Fields:
        return as_json(stored, self._schemas.get)

    def text_of(self, stored: StoredLetter) -> str:
        return as_text(stored, self._schemas.get)

    def chosen(self, choice: Choice) -> Iterator[Mended]:
        """All that are chosen, with the bytes that they have."""
        for page in self.store.pages(choice):
            yield Mended([Repair(stored, stored.letter.value) for stored in page], [], [])

    def named(self, coordinates: Iterable[Coordinates]) -> Mended:
        """The same for single ones."""
        return self._mended((at, letters, {}) for at, letters in self.found(coordinates))

    def mended(self, lines: Sequence[Fields]) -> Mended:
        """Letters as a person has mended them, in the JSON of `show`. Raises DatumError for a line without coordinates."""
        by_place = {coordinates_of(line): line for line in lines}
        return self._mended((at, letters, by_place[at]) for at, letters in self.found(by_place))

    def replay(self, repairs: Sequence[Repair], *, dry_run: bool) -> Iterator[list[Verdict]]:
        return self._replay.replay(repairs, dry_run=dry_run)

    def _mended(self, found: Iterable[tuple[Coordinates, list[StoredLetter], Fields]]) -> Mended:
        mended = Mended([], [], [])
        for at, letters, line in found:
            try:
                repair = self._repair(letters, line)
            except DatumError as error:
                mended.refused.append(Verdict(at, Result.STILL_POISON, "repair", str(error)))
                continue
            mended.repairs.append(repair)
            mended.warnings.extend(self._warnings(repair))
        return mended

    def _repair(self, letters: list[StoredLetter], line: Fields) -> Repair:
        if not letters:
            raise DatumError("no dead letter is there")
        if len(letters) > 1:
            ids = ", ".join(str(each.summary.topic_id) for each in letters)
            raise DatumError(f"topics of this name followed each other: name one by its id, {ids}")
        [stored] = letters
        topic = self._topics.get(stored.letter.topic)
        if topic is None:
            raise DatumError(f"{stored.letter.topic} is no topic of this installation")
        return Repair(stored, repaired_value(stored, line, self._schemas.get, _record(topic), lambda: self._newest_id(topic)))

    def _warnings(self, repair: Repair) -> Iterator[str]:
        """A repaired event should stay the event that it was: views count by event_id."""
        if repair.mended == repair.stored.letter.value:
            return
        before, after = (self._event_id(value) for value in (repair.stored.letter.value, repair.mended))
        if before is not None and after is not None and before != after:
            yield f"{repair.stored.summary.coordinates}: the repair changes event_id from {before} to {after}"

    def _event_id(self, value: bytes | None) -> str | None:
        _, fields, _ = read_fields(value, self._schemas.get)
        return None if fields is None else fields.get("event_id")

    def _newest_id(self, topic: Topic) -> int:
        """The id of the newest version of the topic's contract."""
        name = subject(self._config.topic_prefix, topic)
        if name not in self._newest:
            found = self._schemas.id_of(name, contract(_record(topic)).newest.text)
            if found is None:
                where = public_address(self._config.registry_url)
                raise PartUnreachable(f"the newest version of {name}", where, "`tailrace schemas register` registers it")
            self._newest[name] = found
        return self._newest[name]


def _new_sync() -> bytes:
    return secrets.token_bytes(SYNC_BYTES)


def _record(topic: Topic) -> str:
    assert topic.record is not None, "only topics with a record have a table"
    return topic.record
