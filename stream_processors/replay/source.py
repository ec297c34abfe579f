"""The consumer's edge of a run: partitions assigned by the run itself, read from an offset to an offset, in no group.

To the loop it looks as the live source does: `assigned` holds the partitions that are still to be brought in. One leaves when
all of its range is in, or when it is given up. Nothing is committed anywhere: what is in, the warehouse says.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol, cast

from confluent_kafka import Consumer, TopicPartition

from stream_processors.replay.log_reader import NOBODYS_GROUP, reading
from stream_processors.warehouse.kafka_source import FETCH_RECORDS_MAX, QUEUED_KBYTES_MAX, ClientOptions, Fetched, runs
from stream_processors.warehouse.records import Message, Place, Position


class Throttle(Protocol):
    """How many records may be read now; told how many were."""

    def allowance(self) -> int: ...
    def took(self, records: int) -> None: ...


@dataclass(slots=True)
class Stretch:
    """Of one partition [first, end); all below `reached` is in."""

    first: int
    end: int
    reached: int = field(init=False)

    def __post_init__(self) -> None:
        self.reached = self.first


class ReplaySource:
    """For one thread, but for `stretches`, which any may read."""

    def __init__(
        self, bootstrap: str, options: Mapping[str, str], stretches: Mapping[Place, tuple[int, int]], throttle: Throttle
    ) -> None:
        self.stretches = {place: Stretch(*stretch) for place, stretch in stretches.items()}
        self.assigned: set[Place] = set(stretches)
        self.fetched: set[Place] = set()
        self._throttle = throttle
        self._paused: set[Place] = set()
        self._ended: set[Place] = set()
        """Fetched to its end; what was fetched may not be in yet."""
        client: ClientOptions = {"bootstrap.servers": bootstrap, "log_level": 3, **options}
        fetching: ClientOptions = {"queued.max.messages.kbytes": QUEUED_KBYTES_MAX, "fetch.message.max.bytes": 8 << 20}
        self._consumer = Consumer({**fetching, **client, **reading(NOBODYS_GROUP)})

    def consume(self, timeout_s: float) -> list[Fetched]:
        """What has come, cut at the end of each range."""
        allowed = self._throttle.allowance()
        if allowed <= 0:
            time.sleep(timeout_s)
            return []
        messages = cast("Sequence[Message]", self._consumer.consume(min(allowed, FETCH_RECORDS_MAX), timeout_s))
        self._throttle.took(len(messages))
        return [piece for run in runs(messages) for piece in self._cut(run)]

    def start(self, place: Place, offset: int) -> None:
        stretch = self.stretches[place]
        stretch.reached = max(stretch.reached, offset)
        if offset >= stretch.end:
            self.assigned.discard(place)
            return
        self._consumer.incremental_assign([TopicPartition(*place, offset)])
        self._consumer.resume([TopicPartition(*place)])  # the client remembers a pause over an assignment
        self._ended.discard(place)
        self.fetched.add(place)

    def stop(self, place: Place) -> None:
        if place in self.fetched:
            self.fetched.remove(place)
            self._paused.discard(place)
            self._consumer.incremental_unassign([TopicPartition(*place)])

    def give_up(self, place: Place) -> None:
        """Somebody has to mend something first: the run goes on without it."""
        self.stop(place)
        self.assigned.discard(place)

    def hold_back(self, places: AbstractSet[Place]) -> None:
        """Fetch all that was started but `places`, and what has been fetched to its end."""
        places = (places | self._ended) & self.fetched
        if pausing := places - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in pausing])
        if resuming := self._paused - places:
            self._consumer.resume([TopicPartition(*place) for place in resuming])
        self._paused = set(places)

    def commit(self, positions: Mapping[Place, Position]) -> None:
        """All below these offsets is in: told to nobody, but the partition may be done with."""
        for place, (offset, _) in positions.items():
            stretch = self.stretches[place]
            stretch.reached = max(stretch.reached, min(offset, stretch.end))
            if stretch.reached == stretch.end:
                self.give_up(place)

    def settle(self, positions: Mapping[Place, Position]) -> None:
        self.commit(positions)

    def last_known_end(self, place: Place) -> int:
        """What is far behind gathers full batches: the range's end, not the log's."""
        return self.stretches[place].end

    def ask_whether_ours(self, place: Place) -> None:
        """A run's partitions are its own; another process of the same run shows in the run's log."""

    def close(self) -> None:
        self._consumer.close()

    def _cut(self, run: Fetched) -> Iterator[Fetched]:
        stretch = self.stretches.get(run.place)
        if stretch is None or run.error is not None:
            yield run
            return
        if not run.records:
            if run.end >= stretch.end:
                yield self._ending(run.place, stretch)
            return
        if run.records[-1].offset() < stretch.end:
            yield run
            return
        if within := [message for message in run.records if message.offset() < stretch.end]:
            yield Fetched(run.place, within)
        yield self._ending(run.place, stretch)

    def _ending(self, place: Place, stretch: Stretch) -> Fetched:
        self._ended.add(place)
        return Fetched(place, [], end=stretch.end)
