"""Where an encoded record goes, and where it goes next when that fails.

Without a spool: to the transport, when it has room. With one, by durability: `spool_on_error` sends, and puts on disk what the
transport has no room for, what fails, what has no schema id yet, and everything while the broker is away; `write_ahead` puts all
of it on disk, and sends it from memory as soon as it is there. What waits on disk follows in order, at a capped rate. Topics are
in order each by itself, and none waits for another one's schema, or for one that takes nothing. Every step is booked with the
account of the record's topic.
The courier's alone; nothing here waits but `settle`.

Bounds: what has come back unsent is no more than the transport has room for, in records and in bytes. Of what else is in memory
only the courier adds no more than a batch, but for what is at a stand, since its schema has no id or its topic takes nothing:
that is bounded by what lanes have room for, and so is what of the disk is kept in hand for the same reason.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from producers.accounts import Account
from producers.config import Durability
from producers.diversion import Diversion, Rate
from producers.encoding import SPOOLED, Encoder
from producers.errors import Loss, RecordRefused, Refusal, TopicRefused
from producers.haul import Haul
from producers.lanes import Lanes
from producers.parcel import Parcel
from producers.spool.frames import SpoolRecord
from producers.spool.log import Lost
from producers.spool.segments import Place
from producers.spool.spool import Stored
from producers.spooling import DispatchCounters, Spooling
from producers.stands import Stands
from producers.transport import INTERRUPTED, OF_THE_TOPIC, PERMANENT, OutboundRecord, Transport
from producers.writing import Writing
from schemas import wire

DRAIN_BATCH_MAX = 100
DRAIN_IN_FLIGHT_MAX = 50_000


class Dispatch:
    def __init__(
        self,
        encoder: Encoder,
        transport: Transport,
        accounts: dict[str, Account],
        spooling: Spooling | None,
        counters: DispatchCounters,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = counters
        self._encoder, self._transport, self._accounts = encoder, transport, accounts
        self._spool = None if spooling is None else spooling.spool
        self._write_ahead = spooling is not None and spooling.durability is Durability.WRITE_AHEAD
        self._rate = Rate(1 if spooling is None else spooling.drain_events_s)
        self._diversion = Diversion()
        self._stands = Stands(monotonic)
        self._probes_others = False
        """Whether the next probe is not of what failed before: that may fail again where others would arrive."""
        self._again = Lanes()
        """On disk and in hand: to be sent before what is read back."""
        self._haul: Haul | None = None
        """Read back, and not all of it offered."""
        self._blocked = False
        """Whether the next of it is at a stand, and no more of those may be in hand."""
        self._returned = Lanes()
        """In memory only: they were offered, and failed. They go before those that wait."""
        self._waiting = Lanes()
        """In memory only: no place was found so far."""
        self._writing = Writing(self._spool)
        self._draining = 0
        self._monotonic = monotonic

    @property
    def diverted(self) -> bool:
        return self._spool is not None and (self._diversion.diverted or self._encoder.stuck())

    @property
    def waiting(self) -> int:
        """In memory only, and not at a stand: there will be a place for them soon."""
        waiting = self._waiting.events if self.disk_works() else self._waiting.behind(self._goes)
        return self._returned.events + waiting

    @property
    def in_hand(self) -> int:
        """In memory only, and not with the transport."""
        return self._returned.events + self._waiting.events + len(self._writing)

    @property
    def postponed(self) -> int:
        """On disk and in hand, and could be sent now."""
        return 0 if self.diverted else self._again.behind(self._goes)

    def add(self, parcel: Parcel) -> None:
        if self._goes(parcel) or self.disk_works() or self._waiting.has_room:
            self._waiting.append(parcel)
        else:
            self._lose(parcel, Loss.TOPIC_REFUSED if self._encoder.frames(parcel) else Loss.NO_SCHEMA)

    def place_waiting(self) -> int:
        """Find a place for as many as there is one for, in order."""
        placed = self._returned.place(self._place_again, self._returned.events)
        if not self._returned.events:
            placed += self._waiting.place(self._place, self._waiting.events)
        if self._spool is not None and placed:
            self._spool.flush()
        return placed

    def settle(self, timeout_s: float) -> int:
        """Book what has become of what was sent; wait up to `timeout_s` for a first answer."""
        outcomes = self._transport.poll(timeout_s)
        self._acknowledged(outcomes.delivered)
        for haul, events in outcomes.together.items():
            assert isinstance(haul, Haul), "only hauls are offered together"
            self._delivered(haul, events)
        for record, failure in outcomes.failed:
            self._not_delivered(record, failure)
        self.counters.transport_renewals = self._transport.renewals()
        if self._spool is not None:
            if self._transport.troubled():
                self._divert()
            self.counters.diverted = self.diverted
            self._spool.flush()
        return outcomes.told

    def hear(self) -> int:
        """Book what has become of what was to be written."""
        heard = self._writing.hear()
        for stored in heard.stored:
            self._stored(stored)
        for parcel in heard.back:
            self._back(parcel)
        for lost in heard.lost:
            self._lost(lost)
        return heard.told

    def drain(self) -> int:
        """Send what is on disk, as much as may go now."""
        if self._spool is None:
            return 0
        now, sent = self._monotonic(), 0
        self._spool.expect(many=not self.diverted)
        room = self._drain_room(now)
        while sent < room and (taken := self._drain_some(room - sent)):
            sent += taken
        self._rate.spend(sent)
        return sent

    def in_flight(self) -> int:
        return self._transport.in_flight()

    def writes_now(self) -> bool:
        """Whether what is added goes to disk whatever the registry says."""
        return (self.diverted or self._write_ahead) and self.disk_works()

    def disk_works(self) -> bool:
        return self._spool is not None and self._spool.available()

    def abandon(self, left: int = 0) -> None:
        """Give up on sending what is in flight, waits, or is `left` to be added: that goes to disk, and what follows too."""
        in_flight = self._transport.in_flight()
        if in_flight:
            self._transport.abandon()  # only then: the client's purge can still hit what is offered right after it
        if self._spool is not None and in_flight + left + self._returned.events + self._waiting.events:
            self._divert()

    def give_up(self, reason: str) -> None:
        """Lose what is in memory only."""
        for parcel in (*self._returned.clear(), *self._waiting.clear(), *self._writing.give_up()):
            self._lose(parcel, reason)

    def _place(self, parcel: Parcel) -> bool:
        if (self._blocked or self._probes_others) and self._may_probe() and self._offer(parcel):
            self._probes_others = False
            return True
        first_to_disk = self.diverted or (self._spool is not None and self._stands_still(parcel))
        if parcel.place is not None:  # written ahead
            if first_to_disk or not self._offer(parcel):
                self._postpone(parcel)
            return True
        ahead = self._write_ahead and parcel.account is not None  # a checkpoint is worth no write of its own
        held = not first_to_disk and self._again.has_room
        if (first_to_disk or ahead) and self._writing.submit(parcel, held=held):
            return True
        return self._offer(parcel) or (self._encoder.frames(parcel) and self._writing.submit(parcel, held=False))

    def _place_again(self, parcel: Parcel) -> bool:
        """What has failed goes to disk, as soon as there is room, and is lost without one; what was interrupted is as before."""
        if not parcel.failure:
            return self._place(parcel)
        if self._writing.submit(parcel, held=False):
            return True
        if self._spool is not None and self._spool.takes(parcel):
            return False
        self._lose(parcel, f"delivery_{parcel.failure}")
        return True

    def _offer(self, parcel: Parcel) -> bool:
        """Whether it is out of hand: taken by the transport, or refused for good."""
        record = self._encoder.outbound(parcel) if self._stands.may_go(parcel.record.topic) else None
        if record is None:
            return False
        try:
            taken = self._transport.offer(record)
        except Refusal as error:
            return self._refused(parcel, error)
        if taken:
            self._stands.tried(parcel.record.topic)
        self._draining += taken and parcel.drained
        self.counters.transport_full += not taken
        return taken

    def _refused(self, parcel: Parcel, error: Refusal) -> bool:
        """Whether it is out of hand: lost, unless its topic only takes nothing for now, and there is a disk to wait on."""
        if isinstance(error, TopicRefused) and self._spool is not None:
            self._stands.refused(parcel.record.topic, str(error))
            return False
        self._lose(parcel, f"refused_{error.reason}", detail=str(error))
        return True

    def _goes(self, parcel: Parcel) -> bool:
        """Whether it may be offered: it is not at a stand, or it is time to try."""
        return self._encoder.frames(parcel) and self._stands.may_go(parcel.record.topic)

    def _stands_still(self, parcel: Parcel) -> bool:
        return parcel.record.topic in self._stands or self._encoder.stuck(parcel)

    def _acknowledged(self, records: Sequence[OutboundRecord]) -> None:
        """Booked together: one by one it costs as much as sending them."""
        if not records:
            return
        self._diversion.acknowledged()
        parcels = [_parcel_of(record) for record in records]
        if self._stands:
            self._stands.acknowledged(parcel.record.topic for parcel in parcels)
        drained = sum(parcel.drained for parcel in parcels)
        self._draining -= drained
        self.counters.drained += drained
        counts = Counter((parcel.account, parcel.place is not None) for parcel in parcels)
        for (account, spooled), events in counts.items():
            if account is not None:
                account.acknowledge(events, spooled=spooled)
        if self._spool is not None:
            self._spool.settle(Counter(parcel.place for parcel in parcels if parcel.place is not None))

    def _delivered(self, haul: Haul, events: int) -> None:
        self._diversion.acknowledged()
        self._draining -= events
        haul.deliver(events)
        self._book(haul)

    def _book(self, haul: Haul) -> None:
        """What has arrived of it, once all that is on its way has an answer."""
        assert self._spool is not None, "it came from there"
        arrived = haul.arrived()
        for topic, events in arrived.items():
            if (account := self._account(topic, haul.place)) is not None:
                account.acknowledge(events, spooled=True)
        if arrived:
            self.counters.drained += arrived.total()
            self._spool.settle({haul.place: arrived.total()})

    def _account(self, topic: str, place: Place) -> Account | None:
        """Nobody's books here have what another emitter has left."""
        return self._accounts.get(topic) if place[0].own else None

    def _not_delivered(self, record: OutboundRecord, failure: str) -> None:
        if isinstance(record.ticket, Haul):
            parcel = self._spooled_parcel(record.ticket, record.ticket.fail(record.value, wire.HEADER_BYTES))
            self._book(record.ticket)
        else:
            parcel = _parcel_of(record)
        self._draining -= parcel.drained
        if failure in PERMANENT:
            self._lose(parcel, f"delivery_{failure}")
        else:
            self._failed(parcel, failure)

    def _spooled_parcel(self, haul: Haul, record: SpoolRecord) -> Parcel:
        """One that goes its own way from here on."""
        return Parcel(record, self._account(record.topic, haul.place), haul.place, drained=True)

    def _failed(self, parcel: Parcel, failure: str) -> None:
        if self._spool is not None:
            if failure in OF_THE_TOPIC:
                self._stands.refused(parcel.record.topic, failure)
            else:
                self._divert()
        if parcel.place is not None:
            self._postpone(parcel)
            return
        parcel.failure = "" if failure == INTERRUPTED else failure
        self._returned.append(parcel)

    def _postpone(self, parcel: Parcel) -> None:
        """It is on disk: it can go with what is read back."""
        parcel.drained = True
        self._again.append(parcel)

    def _divert(self) -> None:
        self.counters.diversions += not self._diversion.diverted
        self._diversion.failed(self._monotonic())

    def _stored(self, stored: Stored) -> None:
        parcel = stored.parcel
        if parcel.account is not None:
            parcel.account.store()
        if stored.held:
            parcel.place = stored.place
            self._waiting.append(parcel)

    def _back(self, parcel: Parcel) -> None:
        if parcel.failure:
            self._lose(parcel, f"delivery_{parcel.failure}")
        else:
            self._waiting.append(parcel)

    def _lost(self, lost: Lost) -> None:
        account = self._accounts.get(lost.topic)
        if account is None:
            self.counters.checkpoints_lost += lost.events
        else:
            account.lose(lost.reason, lost.events, spooled=True)

    def _lose(self, parcel: Parcel, reason: str, *, detail: str = "") -> None:
        if parcel.account is not None:
            parcel.account.lose(reason, spooled=parcel.place is not None, detail=detail)
        elif parcel.place is None:
            self.counters.checkpoints_lost += 1
        else:
            self.counters.adopted_lost += 1
        self._leave_disk(parcel)

    def _leave_disk(self, parcel: Parcel) -> None:
        if parcel.place is not None and self._spool is not None:
            self._spool.settle({parcel.place: 1})

    def _drain_room(self, now: float) -> int:
        if self.diverted:
            return int(self._may_probe())
        return min(DRAIN_BATCH_MAX, DRAIN_IN_FLIGHT_MAX - self._draining, self._rate.allowed(now))

    def _may_probe(self) -> bool:
        """Whether it is time for one record to try a broker that was found away."""
        on_their_way = self._draining or (self._blocked and self._transport.in_flight())
        return self._diversion.diverted and not on_their_way and self._diversion.may_probe(self._monotonic())

    def _drain_some(self, events_max: int) -> int:
        """How many got out of hand: what failed on its way goes before what comes from disk; probes are of them by turns."""
        if self._again.behind(self._goes) and not self._probes_others:
            self._probes_others = self.diverted
            return self._again.place(self._offer, events_max)
        self._probes_others = False
        if self._haul is None or self._haul.done:
            self._haul = self._next_haul()
        return 0 if self._haul is None else self._offer_some(self._haul, events_max)

    def _offer_some(self, haul: Haul, events_max: int) -> int:
        """How many of it are out of hand: taken by the transport, or the first refused for good, or set aside."""
        records = self._encoder.keyed(self._stands.before(haul.rest(events_max)))
        self._blocked = not (records or self._again.has_room)
        if not records:
            return 0 if self._blocked else self._set_aside(haul)
        try:
            taken = self._transport.offer_together(records, SPOOLED, haul)
        except RecordRefused as error:
            self._lose(self._spooled_parcel(haul, haul.skip()), f"refused_{error.reason}", detail=str(error))
            return 1
        except TopicRefused as error:
            self._stands.refused(haul.rest(1)[0].topic, str(error))
            return 0
        haul.offer(taken)
        self._draining += taken
        self.counters.transport_full += taken < len(records)
        return taken

    def _set_aside(self, haul: Haul) -> int:
        """The first is at a stand: what comes behind it goes before it."""
        self._postpone(self._spooled_parcel(haul, haul.skip()))
        return 1

    def _next_haul(self) -> Haul | None:
        """The next that this release can send."""
        assert self._spool is not None, "there is something to drain only with a spool"
        while (stretch := self._spool.take()) is not None:
            if self._encoder.knows(stretch.records):
                return Haul(stretch)
            self._spool.leave(stretch.place)
        return None


def _parcel_of(record: OutboundRecord) -> Parcel:
    assert isinstance(record.ticket, Parcel), "only parcels are offered"
    return record.ticket
