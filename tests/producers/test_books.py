"""The books close at every moment, whatever broker, registry and disk do, in whatever order, and at the end: what an emitter has
left on disk is sent by the next one of its host. No threads: each step is a rule.
"""

import os
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producers import lanes
from producers.accounts import TopicSummary
from producers.config import Durability, SpoolLimits
from producers.dispatch import Dispatch
from producers.encoding import Encoder
from producers.errors import Loss
from producers.identity import Identity
from producers.known_ids import KnownIds
from producers.outbox import EVENT_TYPES, Outbox
from producers.spool import inbox
from producers.spool.directory import SpoolRoot
from producers.spool.file_system import PosixFileSystem
from producers.spool.log import SpoolLog
from producers.spool.spool import Spool
from producers.spooling import DispatchCounters, Spooling
from schemas.events import EventId, ProducerId
from schemas.topics import Topic
from tests.producers.event_samples import CLICK, MALFORMED, SERVED, KnownSchemaIds, served_of
from tests.producers.flaky_transport import FlakyTransport
from tests.producers.spools import Clock, new_id

QUEUE_EVENTS_MAX, INBOX_EVENTS_MAX, AT_A_STAND_EVENTS_MAX = 40, 20, 15
TIGHT = SpoolLimits(bytes_max=30_000, age_s_max=3_600, drain_events_s=1_000_000)
ROOMY = SpoolLimits(bytes_max=100_000_000, age_s_max=30 * 86_400, drain_events_s=1_000_000)
"""No event is dropped for a cap."""
LARGE = replace(SERVED, surface="s" * 1_000)
"""A cap on bytes is reached with few."""


class ScriptedDisk(PosixFileSystem):
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


TOPICS = ["tailrace.recommendations", "tailrace.interactions"]


class ScriptedIds(KnownIds):
    """Answers at once, while it is up."""

    def __init__(self) -> None:
        super().__init__(KnownSchemaIds)
        self.up, self.without = False, ""
        self.failures = 1

    def get(self, topic: Topic, version: int) -> int | None:
        return len(topic.name) + version if self.up and topic.name != self.without else None


@dataclass(slots=True)
class Left:
    """What those who are closed have told, of all topics: each event was acknowledged, is lost, or on disk for the next one."""

    acknowledged: int = 0
    spooled: int = 0
    unsent: int = 0
    """Lost for want of time; such a one may have come to disk all the same."""


class Books(RuleBasedStateMachine):
    @initialize(durability=st.sampled_from(Durability), rough=st.booleans())
    def begin(self, durability: Durability, *, rough: bool) -> None:
        """On a rough host caps are tight, and files are damaged."""
        self.directory = tempfile.TemporaryDirectory(prefix="tailrace-books-")
        self.bounds = ExitStack()
        self.bounds.enter_context(patch.object(inbox, "EVENTS_MAX", INBOX_EVENTS_MAX))
        self.bounds.enter_context(patch.object(lanes, "AT_A_STAND_EVENTS_MAX", AT_A_STAND_EVENTS_MAX))
        self.clock, self.seconds = Clock(), 0.0
        self.durability, self.rough = durability, rough
        self.disk, self.ids, self.transport = ScriptedDisk(), ScriptedIds(), FlakyTransport()
        self.left = Left()
        self._begin_emitter()

    def _begin_emitter(self) -> None:
        producer_id = ProducerId(new_id())
        identity = Identity(producer_id, tuple(topic for _, topic in EVENT_TYPES))
        self.outbox = Outbox(identity, QUEUE_EVENTS_MAX, lambda: EventId(new_id()))
        self.encoder = Encoder(producer_id, "tailrace.", self.ids)
        root, limits = SpoolRoot(Path(self.directory.name)), TIGHT if self.rough else ROOMY
        self.log = SpoolLog(root, producer_id, self.disk, limits, now_us=self.clock, new_id=new_id)
        self.spool = Spool(self.log, lambda: self.seconds)
        spooling = None if self.durability is Durability.MEMORY else Spooling(self.spool, self.durability, limits.drain_events_s)
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

    @rule(turns=st.sampled_from([0, 1, 5]), busy=st.booleans())
    def close(self, turns: int, *, busy: bool) -> None:
        """As the courier ends, with turns for time. The next emitter of the host then finds what is on disk."""
        if busy:
            self.turn(1)
            self.emit(3, malformed=False)
            self.move()
        self.outbox.close(Loss.CLOSED)
        assert not self.outbox.put(CLICK), "who comes now is told"
        self._within(turns)
        if not self.dispatch.disk_works():
            self._give_up()
        self.dispatch.abandon(left=len(self.outbox))
        self._within(turns)
        self._give_up()
        self.dispatch.abandon()
        self._within(turns)
        self.dispatch.give_up(Loss.UNSENT_AT_CLOSE)
        self.the_books_close()
        assert {topic.queued for topic in self._summaries()} == {0}
        self._end_spool()
        self._note_what_is_left()
        self._begin_emitter()

    def _within(self, turns: int) -> None:
        """What the client tells, it tells at once."""
        for _ in range(turns):
            self.move()
            self.work()
        self.dispatch.settle(0.0)
        self.dispatch.hear()

    def _give_up(self) -> None:
        for numbered in self.outbox.take(QUEUE_EVENTS_MAX):
            numbered.route.account.lose(Loss.UNSENT_AT_CLOSE)
        self.dispatch.give_up(Loss.UNSENT_AT_CLOSE)

    def _end_spool(self) -> None:
        self.spool.work()
        with suppress(OSError):
            self.log.close()
        self.log.forget()  # as the end of the process does, where the disk did not let it close
        for path in Path(self.directory.name).rglob("*.spool"):
            os.utime(path, ns=(self.clock.now * 1_000, self.clock.now * 1_000))

    def _note_what_is_left(self) -> None:
        for topic in self._summaries():
            self.left.acknowledged += topic.acknowledged
            self.left.spooled += topic.spooled
            self.left.unsent += topic.dropped.get(Loss.UNSENT_AT_CLOSE, 0)

    @rule()
    def lose_the_broker(self) -> None:
        """What is in flight fails, goes to disk, is tried again, and fails again."""
        self.broker(reachable=False, room=1_000)
        for _ in range(2):
            self.turn(2)
            self.broker_times_out()
            self.move()
            self.wait(3)

    @rule()
    def send_a_few(self) -> None:
        """Of what is on disk; then the broker is away again."""
        self.registry(up=True)
        self.broker(reachable=True, room=3)
        for _ in range(3):
            self.wait(1)
            self.drain()
            self.move()
            self.work()
        self.broker(reachable=False, room=3)

    @rule(up=st.booleans(), without=st.sampled_from(["", "recommendations", "interactions"]))
    def registry(self, *, up: bool, without: str = "") -> None:
        self.ids.up, self.ids.without = up, without

    @rule(reachable=st.booleans(), room=st.sampled_from([3, 1_000]))
    def broker(self, *, reachable: bool, room: int) -> None:
        self.transport.reachable, self.transport.records_max = reachable, room

    @rule(topic=st.sampled_from(TOPICS), offered=st.booleans())
    def refuse(self, topic: str, *, offered: bool) -> None:
        """One topic takes nothing."""
        if offered:
            self.transport.refused.add(topic)
        else:
            self.transport.failing[topic] = "topic_authorization_failed"

    @rule()
    def refuse_nothing(self) -> None:
        self.transport.refused.clear()
        self.transport.failing.clear()

    @rule()
    def break_the_client(self) -> None:
        self.transport.break_down()

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

    @precondition(lambda self: self.rough and any(Path(self.directory.name).rglob("*.spool")))
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
        self.disk.full = False
        self.registry(up=True)
        self.refuse_nothing()
        self.transport.reachable, self.transport.records_max = True, 1_000
        for _ in range(400):
            self.wait(1)
            self.move()
            self.work()
            self.drain()
        self.the_books_close()
        assert {(topic.queued, topic.spooled) for topic in self._summaries()} == {(0, 0)}
        served = self._summaries()[0]
        own = [event for event in served_of(self.transport.records) if event.producer_id == self.outbox.producer_id]
        arrived = {event.producer_seq for event in own}
        assert len(arrived) == served.acknowledged
        assert served.emitted == len(arrived) + sum(served.dropped.values())
        self.what_was_left_has_arrived()
        self.log.close()
        self.directory.cleanup()
        self.bounds.close()

    def what_was_left_has_arrived(self) -> None:
        """All of it where neither caps nor damage take any. What was sent again, since a cursor was behind, counts once."""
        acknowledged = self.left.acknowledged + sum(topic.acknowledged for topic in self._summaries())
        arrived = len({record.value for record in self.transport.records})
        assert arrived >= acknowledged + (0 if self.rough else self.left.spooled)
        assert arrived <= acknowledged + self.left.spooled + self.left.unsent

    def _summaries(self) -> list[TopicSummary]:
        return [self.outbox.summary(route) for route in self.outbox.routes]


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
