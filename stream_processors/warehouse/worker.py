"""The sink's loop: follow the group, gather what is fetched, hand partitions to the crew, hold back when too much is in hand.

Consuming goes on in this thread while the crew owns, splices and inserts, one run at a time for a partition. What is in hand is
bounded in bytes: at the bound the loop waits for the crew, and after a while has the partitions paused, so that a warehouse that
is away costs no memory. A partition whose run did not end clean rests, for longer each time; the others go on.
"""

import logging
import queue
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from stream_processors.warehouse.batch import Batch, BatchLimits
from stream_processors.warehouse.crew import Crew
from stream_processors.warehouse.errors import BrokerTrouble, Retryable
from stream_processors.warehouse.kafka_source import Fetched
from stream_processors.warehouse.metrics import SinkMetrics
from stream_processors.warehouse.pacing import Pace
from stream_processors.warehouse.partition import Partition
from stream_processors.warehouse.protocol import Step
from stream_processors.warehouse.records import Place, Position, Standing
from stream_processors.warehouse.tenure import Tenure

log = logging.getLogger(__name__)

POLL_S = 0.05
BLOCKED_WAIT_S = 0.05
PATIENCE_S = 1.0
"""After so long at a bound, fetching is paused. Sooner would throw away what has been fetched ahead."""
FINISH_LIMIT_S = 8.0


class Source(Protocol):
    """Where records come from: `assigned` is what is to be brought in, `fetched` the part of it that was started."""

    assigned: set[Place]
    fetched: set[Place]

    def consume(self, timeout_s: float) -> Iterable[Fetched]: ...
    def start(self, place: Place, offset: int) -> None: ...
    def stop(self, place: Place) -> None: ...
    def hold_back(self, places: AbstractSet[Place]) -> None: ...
    def commit(self, positions: Mapping[Place, Position]) -> None: ...
    def settle(self, positions: Mapping[Place, Position]) -> None: ...
    def last_known_end(self, place: Place) -> int: ...


class _Ended(NamedTuple):
    """What a run came to; `crash` is our bug, and ends the process."""

    partition: Partition
    tenure: Tenure
    trouble: Retryable | None
    crash: BaseException | None


@dataclass(slots=True)
class Worker:
    """Moves records of the partitions that the group gives us into their tables."""

    source: Source
    new_tenure: Callable[[Place], Tenure]
    crew: Crew
    limits: BatchLimits
    metrics: SinkMetrics
    clock_s: Callable[[], float]
    jitter: Callable[[], float]
    now_ms: Callable[[], int]
    """The wall clock, to tell the age of records by Kafka's."""
    partitions: dict[Place, Partition] = field(default_factory=dict, init=False)
    _stepped_s: float = field(init=False)
    _runs: int = field(default=0, init=False)
    _ended: "queue.SimpleQueue[_Ended]" = field(default_factory=queue.SimpleQueue, init=False)
    _to_commit: dict[Place, Position | None] = field(default_factory=dict, init=False)
    _pace: Pace = field(init=False)
    _blocked_since_s: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.limits.age_s_min, self.limits.age_s_max)
        self._stepped_s = self.clock_s()

    def step(self) -> None:
        """One round."""
        self._stepped_s = self.clock_s()
        if self._flowing():
            with self.metrics.spending("poll"):
                fetched = self.source.consume(POLL_S)
            self._take(fetched)
        self._collect(0)
        self._commit(self.source.commit, self._to_commit)
        self._to_commit.clear()
        self._follow_the_group()
        self._hold_back()
        self._attend()

    def bytes_in_hand(self) -> int:
        return sum(partition.bytes_in_hand() for partition in list(self.partitions.values()))

    def standings(self) -> list[Standing]:
        """How each partition stands. May be asked from another thread."""
        now_s, now_ms = self.clock_s(), self.now_ms()
        return [self._standing(partition, now_s, now_ms) for partition in list(self.partitions.values())]

    def silent_s(self) -> float:
        """How long ago the loop came round."""
        return self.clock_s() - self._stepped_s

    def finish(self) -> None:
        """Deliver what has been gathered and wait for its commits, FINISH_LIMIT_S at most. The rest will be read again."""
        deadline_s = self.clock_s() + FINISH_LIMIT_S
        while self.clock_s() < deadline_s and any(each.busy or each.ready for each in self.partitions.values()):
            for partition in self.partitions.values():
                if partition.ready:
                    self._deliver(partition)
            self._collect(BLOCKED_WAIT_S)
        self._commit(self.source.settle, {place: each.tenure.reached for place, each in self.partitions.items()})

    def _commit(self, send: Callable[[Mapping[Place, Position]], None], reached: Mapping[Place, Position | None]) -> None:
        positions = {place: position for place, position in reached.items() if position is not None}
        try:
            if positions:
                send(positions)
        except BrokerTrouble as trouble:
            log.warning("%s: what was not committed will be read again", trouble)

    def _standing(self, partition: Partition, now_s: float, now_ms: int) -> Standing:
        oldest_ms, trouble = partition.oldest_ms(), partition.trouble
        return Standing(
            place=partition.place,
            owned=partition.fetching,
            stopped=trouble is not None and trouble.needs_somebody,
            lag_records=max(0, partition.log_end - partition.done_end()),
            lag_s=max(0.0, (now_ms - oldest_ms) / 1000) if oldest_ms is not None else partition.waiting_s(now_s),
            waiting_s=partition.waiting_s(now_s),
            progress_s=partition.progress_ms / 1000,
            gathered=len(partition.gathering.messages),
            trouble=None if trouble is None else str(trouble),
        )

    def _flowing(self) -> bool:
        """Whether to consume in this round. At the bound the crew is waited for; the group is looked after all the same."""
        if self.bytes_in_hand() < self.limits.bytes_in_hand:
            self._blocked_since_s = None
            return True
        if self._blocked_since_s is None:
            self._blocked_since_s = self.clock_s()
        with self.metrics.spending("blocked"):
            self._collect(BLOCKED_WAIT_S)
        return self._blocked_long()

    def _blocked_long(self) -> bool:
        return self._blocked_since_s is not None and self.clock_s() - self._blocked_since_s > PATIENCE_S

    def _take(self, fetched: Iterable[Fetched]) -> None:
        now_s = self.clock_s()
        for run in fetched:
            partition = self.partitions.get(run.place)
            if partition is None or run.place not in self.source.fetched:
                if run.error is not None:
                    log.warning("the consumer: %s", run.error)
            elif run.error is not None:
                self._begin_anew(partition, Retryable(f"{run.place}: {run.error}"))
            else:
                self._gather(partition, run, now_s)

    def _gather(self, partition: Partition, run: Fetched, now_s: float) -> None:
        if run.records:
            partition.gathering.extend(run.records, now_s)
        else:
            partition.gathering.reach(run.end, now_s)
        if partition.waiting_since_s is None and partition.gathering.opened_s is not None:
            partition.waiting_since_s = now_s

    def _begin_anew(self, partition: Partition, trouble: Retryable) -> None:
        """Fetching failed: a new tenure begins with a rest, whatever a run of the old one may still be doing."""
        self.metrics.failed(partition.place, trouble)
        partition.tenure.forgotten = True
        partition.tenure, partition.busy = self.new_tenure(partition.place), False
        self._rest(partition, trouble)

    def _follow_the_group(self) -> None:
        """A partition that was taken and given back between two polls is no longer fetched: it starts anew as well."""
        for place, partition in list(self.partitions.items()):
            if place not in (self.source.fetched if partition.fetching else self.source.assigned):
                partition.tenure.forgotten = True
                del self.partitions[place]
        for place in self.source.assigned - self.partitions.keys():
            self.partitions[place] = Partition(self.new_tenure(place), Batch(0), self.clock_s())

    def _hold_back(self) -> None:
        """Pause what cannot be delivered for longer than a moment; fetch the rest."""
        if self._blocked_long():
            self.source.hold_back(set(self.partitions))
            return
        now_s = self.clock_s()
        full = (each for each in self.partitions.values() if each.busy and each.gathering.full(self.limits))
        self.source.hold_back({each.place for each in full if each.gathering.aged(PATIENCE_S, now_s)})

    def _attend(self) -> None:
        """Wake who has rested, and deliver what is due while the crew has a hand free, the oldest first."""
        now_s = self.clock_s()
        for partition in self.partitions.values():
            partition.log_end = self.source.last_known_end(partition.place)
            if partition.resting and now_s >= partition.pause_until_s:
                self._send(partition)
        ready = [partition for partition in self.partitions.values() if partition.ready and self._due(partition, now_s)]
        for partition in sorted(ready, key=lambda each: each.gathering.opened_s or 0.0)[: max(0, self.crew.size - self._runs)]:
            self._deliver(partition)

    def _due(self, partition: Partition, now_s: float) -> bool:
        batch = partition.gathering
        if batch.full(self.limits) or self._blocked_since_s is not None:
            return True
        return batch.aged(self._pace.age_s(len(self.partitions), partition.log_end - batch.end), now_s)

    def _deliver(self, partition: Partition) -> None:
        self.metrics.cut(partition.gathering, self.clock_s())
        partition.cut()
        self._send(partition)

    def _send(self, partition: Partition) -> None:
        partition.busy = True
        self._runs += 1
        tenure = partition.tenure
        self.crew.take(lambda: self._run(partition, tenure))

    def _run(self, partition: Partition, tenure: Tenure) -> None:
        """In one of the crew's threads."""
        try:
            self._ended.put(_Ended(partition, tenure, tenure.run(), None))
        except BaseException as crash:  # noqa: BLE001 - raised again in the loop
            self._ended.put(_Ended(partition, tenure, None, crash))

    def _collect(self, wait_s: float) -> None:
        """Take note of the runs that have ended; wait for the first, if need be."""
        try:
            self._end(self._ended.get(timeout=wait_s) if wait_s else self._ended.get_nowait())
            while True:
                self._end(self._ended.get_nowait())
        except queue.Empty:
            return

    def _end(self, ended: _Ended) -> None:
        self._runs -= 1
        if ended.crash is not None:
            raise ended.crash
        partition, tenure = ended.partition, ended.tenure
        if tenure.forgotten:
            return
        partition.busy = False
        if tenure.step is Step.REST:
            assert ended.trouble is not None, f"{partition.place} rests for no reason"
            self._rest(partition, ended.trouble)
        else:
            self._go_on(partition)

    def _go_on(self, partition: Partition) -> None:
        """Owned now, or a batch is in."""
        if partition.fetching:
            self._pace.note(partition.tenure.run_s)
            self._to_commit[partition.place] = partition.tenure.reached
            partition.delivered(self.clock_s(), self.now_ms())
        elif partition.place in self.source.assigned:
            start = partition.tenure.ownership.start
            partition.owned(start)
            self.source.start(partition.place, start)

    def _rest(self, partition: Partition, trouble: Retryable) -> None:
        """Whatever was gathered is forgotten; the next reconciliation says what of it is in."""
        self.source.stop(partition.place)
        pause_s = partition.rest(trouble, self.clock_s(), self.jitter)
        log.warning("gave up %s for %.1f s: %s", partition.place, pause_s, trouble)
