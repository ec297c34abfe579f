"""The books close at every moment, whatever broker, registry and disk do, in whatever order. No threads: each step is a rule."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producers.accounts import TopicSummary
from producers.config import Durability, SpoolLimits
from producers.dispatch import Disk, Dispatch, DispatchCounters
from producers.encoding import Encoder
from producers.errors import Loss
from producers.identity import Identity
from producers.known_ids import KnownIds
from producers.outbox import EVENT_TYPES, Outbox
from producers.spool.directory import SpoolRoot
from producers.spool.disk import PosixDisk
from producers.spool.log import SpoolLog
from producers.spool.spool import Spool
from schemas.events import EventId, ProducerId
from schemas.topics import Topic
from tests.producers.event_samples import CLICK, MALFORMED, SERVED, KnownSchemaIds, served_of
from tests.producers.flaky_transport import FlakyTransport
from tests.producers.spools import Clock, new_id

QUEUE_EVENTS_MAX = 40
LARGE = replace(SERVED, surface="s" * 1_000)
"""A cap on bytes is reached with few."""
PRODUCER = ProducerId("00000000-0000-7000-8000-0000000000aa")


class ScriptedDisk(PosixDisk):
    """A real one that can be full: what is written is then cut short, as a disk does it."""

    full = False

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError("no space left on device")
        return super().create(path)

    def write(self, descriptor: int, data: bytes, start: int) -> None:
        if self.full:
            super().write(descriptor, data[: len(data) // 2], start)
            raise OSError("no space left on device")
        super().write(descriptor, data, start)


class ScriptedIds(KnownIds):
    """Answers at once, while it is up."""

    def __init__(self) -> None:
        super().__init__(KnownSchemaIds)
        self.up = False
        self.failures = 1

    def get(self, topic: Topic, version: int) -> int | None:
        return len(topic.name) + version if self.up else None


class Books(RuleBasedStateMachine):
    @initialize(durability=st.sampled_from(Durability))
    def begin(self, durability: Durability) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="tailrace-books-")
        self.clock, self.seconds = Clock(), 0.0
        self.disk, self.ids, self.transport = ScriptedDisk(), ScriptedIds(), FlakyTransport()
        identity = Identity(PRODUCER, tuple(topic for _, topic in EVENT_TYPES))
        self.outbox = Outbox(identity, QUEUE_EVENTS_MAX, lambda: EventId(new_id()))
        self.encoder = Encoder(PRODUCER, "tailrace.", self.ids)
        limits = SpoolLimits(bytes_max=30_000, age_s_max=3_600, drain_events_s=1_000_000)
        root = SpoolRoot(Path(self.directory.name))
        self.log = SpoolLog(root, PRODUCER, self.disk, limits, now_us=self.clock, new_id=new_id)
        self.spool = Spool(self.log, lambda: self.seconds)
        spooling = None if durability is Durability.MEMORY else Disk(self.spool, durability, limits.drain_events_s)
        accounts = {route.account.topic: route.account for route in self.outbox.routes}
        counters = DispatchCounters()
        self.dispatch = Dispatch(self.encoder, self.transport, accounts, spooling, counters, lambda: self.seconds)

    @rule(events=st.integers(1, 30), malformed=st.booleans())
    def emit(self, events: int, *, malformed: bool) -> None:
        for _ in range(events):
            self.outbox.put(LARGE)
        self.outbox.put(CLICK)
        if malformed:
            self.outbox.put(MALFORMED)

    @rule()
    def move(self) -> None:
        self.dispatch.hear()
        self.dispatch.settle(0.0)
        for numbered in self.outbox.take(16) if self.dispatch.waiting < 16 else ():
            account = numbered.route.account
            try:
                self.dispatch.add(self.encoder.parcel(numbered))
            except ValueError:
                account.lose(Loss.ENCODE)
        self.dispatch.place_waiting()
        self.seconds += 0.3

    @rule()
    def drain(self) -> None:
        self.dispatch.hear()
        self.dispatch.drain()

    @rule()
    def work(self) -> None:
        self.spool.work()

    @rule(turns=st.integers(1, 6))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.emit(3, malformed=False)
            self.move()
            self.work()
            self.drain()

    @rule()
    def lose_the_broker(self) -> None:
        """What is in flight fails, goes to disk, is tried again, and fails again."""
        self.broker(reachable=False, room=1_000)
        for _ in range(2):
            self.turn(2)
            self.broker_times_out()
            self.move()
            self.wait(3)

    @rule(up=st.booleans())
    def registry(self, *, up: bool) -> None:
        self.ids.up = up

    @rule(reachable=st.booleans(), room=st.sampled_from([3, 1_000]))
    def broker(self, *, reachable: bool, room: int) -> None:
        self.transport.reachable, self.transport.records_max = reachable, room

    @rule()
    def broker_times_out(self) -> None:
        self.transport.fail_pending()

    @rule(full=st.booleans())
    def fill_disk(self, *, full: bool) -> None:
        self.disk.full = full

    @rule(seconds=st.sampled_from([1, 70, 4_000]))
    def wait(self, seconds: int) -> None:
        self.seconds += seconds
        self.clock.now += seconds * 1_000_000

    @precondition(lambda self: any(Path(self.directory.name).rglob("*.spool")))
    @rule(at=st.integers(0, 1_000_000))
    def damage(self, at: int) -> None:
        for path in Path(self.directory.name).rglob("*.spool"):
            data = bytearray(path.read_bytes())
            if data:
                data[at % len(data)] ^= 0xFF
                path.write_bytes(bytes(data))

    @invariant()
    def the_books_close(self) -> None:
        for topic in self._summaries():
            assert topic.emitted == topic.acknowledged + topic.queued + topic.spooled + sum(topic.dropped.values()), topic
            assert min(topic.acknowledged, topic.queued, topic.spooled, *topic.dropped.values(), 0) == 0, topic

    def teardown(self) -> None:
        """With everything well again, each event is in Kafka or among the dropped."""
        if not hasattr(self, "directory"):
            return
        self.disk.full, self.ids.up = False, True
        self.transport.reachable, self.transport.records_max = True, 1_000
        for _ in range(400):
            self.wait(1)
            self.move()
            self.work()
            self.drain()
        self.the_books_close()
        assert {(topic.queued, topic.spooled) for topic in self._summaries()} == {(0, 0)}
        served = self._summaries()[0]
        arrived = {event.producer_seq for event in served_of(self.transport.records)}
        assert len(arrived) == served.acknowledged
        assert served.emitted == len(arrived) + sum(served.dropped.values())
        self.log.close()
        self.directory.cleanup()

    def _summaries(self) -> list[TopicSummary]:
        return [self.outbox.summary(route) for route in self.outbox.routes]


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
