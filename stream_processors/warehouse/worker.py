"""The sink's loop: own what the group gives us, gather what is fetched, deliver what is due, commit what is in.

One thread, one insert at a time. A partition whose batch did not end clean is given up on the spot, and owned again after a pause
that grows with its failures; the others go on.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import Message

from stream_processors.warehouse.batch import Batch, BatchLimits
from stream_processors.warehouse.delivery import Delivery
from stream_processors.warehouse.errors import Refused, Retryable
from stream_processors.warehouse.kafka_source import KafkaSource, end_of_partition, place_of, record
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.ownership import OwnershipKeeper
from stream_processors.warehouse.records import Ownership, Place

log = logging.getLogger(__name__)

POLL_S = 0.1
ATTEND_S = 1.0
"""After so long with the partitions the group is polled again, lest one that hangs cost the process its membership."""
PAUSE_S_MIN = 0.2
PAUSE_S_MAX = 15.0
LOOK_FIRST_BATCHES = 10
"""So many batches after the last poison are searched before they are inserted."""


class Route(NamedTuple):
    """Which record a topic holds, and which table takes it."""

    record: str
    table: str


@dataclass(slots=True)
class Partition:
    """What the worker holds of one partition that the group has given it. `ownership` is None while it is not owned."""

    place: Place
    ownership: Ownership | None
    batch: Batch
    failures: int = 0
    pause_until_s: float = 0.0
    attended_s: float = 0.0
    look_first: int = 0

    def pause(self, now_s: float, jitter: Callable[[], float]) -> float:
        """Seconds until the next try: doubled with each failure, capped, and spread so that partitions do not try in step."""
        pause_s = min(PAUSE_S_MAX, PAUSE_S_MIN * 2.0 ** min(self.failures, 10)) * (0.5 + jitter() / 2)
        self.failures += 1
        self.pause_until_s = now_s + pause_s
        return pause_s


@dataclass(slots=True)
class Worker:
    """Moves records of the topics in `routes` into their tables."""

    source: KafkaSource
    keeper: OwnershipKeeper
    delivery: Delivery
    routes: Mapping[str, Route]
    limits: BatchLimits
    metrics: SinkMetrics
    clock_s: Callable[[], float]
    jitter: Callable[[], float]
    _partitions: dict[Place, Partition] = field(default_factory=dict, init=False)

    def step(self) -> None:
        """One round."""
        for message in self.source.consume(POLL_S):
            self._take(message)
        self._follow_the_group()
        began_s = self.clock_s()
        for partition in sorted(self._partitions.values(), key=lambda partition: partition.attended_s):
            self._attend(partition)
            if self.clock_s() - began_s > ATTEND_S:
                return

    def gathered(self) -> int:
        """Records that wait for their batch to be due."""
        return sum(len(partition.batch.messages) for partition in list(self._partitions.values()))

    def finish(self) -> None:
        """Deliver what has been gathered, and wait for its commits. What cannot be delivered now will be read again."""
        for partition in self._partitions.values():
            if partition.ownership is not None:
                self._deliver(partition, partition.ownership, wait=True)

    def _take(self, message: Message) -> None:
        place, error = place_of(message), message.error()
        partition = self._partitions.get(place)
        if partition is None or partition.ownership is None:
            if error is not None:
                log.warning("the consumer: %s", error)
            return
        if error is None:
            partition.batch.add(record(message), self.clock_s())
        elif (end := end_of_partition(message)) is not None:
            partition.batch.reach(end, self.clock_s())
        else:
            self._give_up(partition, Retryable(f"{place}: {error}"))

    def _follow_the_group(self) -> None:
        """A partition that was taken and given back between two polls is no longer fetched: it starts anew as well."""
        gone = [place for place, partition in self._partitions.items() if not self._still_ours(partition)]
        for place in gone:
            del self._partitions[place]
            self.metrics.forgotten(place)
        for place in self.source.assigned - self._partitions.keys():
            self._partitions[place] = Partition(place, None, Batch(0))

    def _still_ours(self, partition: Partition) -> bool:
        return partition.place in (self.source.assigned if partition.ownership is None else self.source.fetched)

    def _attend(self, partition: Partition) -> None:
        now_s = partition.attended_s = self.clock_s()
        if partition.ownership is None:
            if now_s >= partition.pause_until_s:
                self._own(partition)
        elif partition.batch.due(self.limits, now_s):
            self._deliver(partition, partition.ownership, wait=False)

    def _own(self, partition: Partition) -> None:
        try:
            ownership = self.keeper.own(partition.place, self.routes[partition.place.topic].table)
        except Retryable as error:
            self._give_up(partition, error)
            return
        partition.ownership, partition.batch = ownership, Batch(ownership.start)
        self.source.start(partition.place, ownership.start)
        log.info("own %s from %d, %d records there already", partition.place, ownership.start, ownership.present.count())

    def _deliver(self, partition: Partition, ownership: Ownership, *, wait: bool) -> None:
        try:
            self._bring_in(partition, ownership, wait=wait)
        except Retryable as error:
            self._give_up(partition, error)

    def _bring_in(self, partition: Partition, ownership: Ownership, *, wait: bool) -> None:
        """Deliver what was gathered and commit its end."""
        place, batch = partition.place, partition.batch
        if not self.keeper.still_there(ownership):
            raise Retryable(f"{place}: the topic was made anew")
        record_name = self.routes[place.topic].record
        found = self.delivery.deliver(batch, ownership, record_name, look_first=partition.look_first > 0)
        self._note(partition, found)
        partition.batch = Batch(batch.end)
        self.source.commit(place, batch.end, ownership.topic_id, wait=wait)
        self.metrics.committed(place, max(0, self.source.last_known_end(place) - batch.end))

    def _note(self, partition: Partition, dead_letters: int) -> None:
        partition.failures = 0
        partition.look_first = LOOK_FIRST_BATCHES if dead_letters else max(0, partition.look_first - 1)

    def _give_up(self, partition: Partition, error: Retryable) -> None:
        """Whatever was gathered is forgotten; the next reconciliation says what of it is in."""
        self.source.stop(partition.place)
        partition.ownership, partition.batch = None, Batch(0)
        if isinstance(error, Refused) and error.blames_the_data:
            partition.look_first = LOOK_FIRST_BATCHES
        pause_s = partition.pause(self.clock_s(), self.jitter)
        self.metrics.gave_up(partition.place, error)
        log.warning("gave up %s for %.1f s: %s", partition.place, pause_s, error)
