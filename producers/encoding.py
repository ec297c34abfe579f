"""Events to records: datums under the newest contracts, and the wire's frame around them once the registry's ids are known."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from producers.known_ids import KnownIds
from producers.outbox import EVENT_TYPES, Numbered
from producers.parcel import Parcel
from producers.spool.frames import SpoolRecord
from producers.transport import Headers, Keyed, OutboundRecord
from schemas import wire
from schemas.codec import Codec
from schemas.contracts import contract
from schemas.events import ProducerCheckpoint, ProducerId
from schemas.topics import PRODUCER_CHECKPOINTS, Topic, topic_name

TOPICS = (*(topic for _, topic in EVENT_TYPES), PRODUCER_CHECKPOINTS)
"""The topics that an emitter writes to."""

SPOOLED: Headers = (("spooled", b"1"),)


class Encoder:
    """The courier's alone."""

    def __init__(self, producer_id: ProducerId, prefix: str, ids: KnownIds) -> None:
        self._producer_id, self._ids = producer_id, ids
        self._codecs: dict[type[object], Codec[Any]] = {kind: Codec(kind) for kind, _ in EVENT_TYPES}
        self._checkpoint_codec = Codec(ProducerCheckpoint)
        self._topics = {topic.name: topic for topic in TOPICS}
        self._newest = {topic.name: _newest(topic) for topic in TOPICS}
        self._names = {topic.name: topic_name(prefix, topic) for topic in TOPICS}
        self._complete = False
        """Whether all of it can be: asked for every event."""
        self._frames: dict[tuple[str, int], tuple[str, bytes]] = {}

    def ready(self) -> bool:
        """Whether any of what is emitted now can be framed."""
        if not self._complete:
            framed = {name for name, version in self._newest.items() if self._frame(name, version)}  # asks for all of them
            self._complete = framed == set(self._newest)
            return bool(framed - {PRODUCER_CHECKPOINTS.name})
        return True

    def frames(self, parcel: Parcel) -> bool:
        """Whether the id of its schema is known."""
        return self._frame(parcel.record.topic, parcel.record.version) is not None

    def stuck(self, parcel: Parcel | None = None) -> bool:
        """Whether it, or anything at all, cannot be framed, and the registry has been asked in vain."""
        return self._ids.failures > 0 and not (self.ready() if parcel is None else self.frames(parcel))

    def knows(self, records: Sequence[SpoolRecord]) -> bool:
        """Whether this release has their topics and contracts."""
        return all(1 <= version <= self._newest.get(topic, 0) for topic, version in set(map(_kind, records)))

    def parcel(self, numbered: Numbered) -> Parcel:
        """Raises whatever an event that is not as it should be runs into."""
        event, account = numbered.event, numbered.route.account
        datum = self._codecs[type(event)].encode_datum(event, numbered.stamp(self._producer_id))
        return Parcel(SpoolRecord(account.topic, self._newest[account.topic], event.unit_id.encode(), datum), account)

    def checkpoint(self, checkpoint: ProducerCheckpoint) -> Parcel:
        name = PRODUCER_CHECKPOINTS.name
        datum = self._checkpoint_codec.encode_datum(checkpoint)
        return Parcel(SpoolRecord(name, self._newest[name], self._producer_id.encode(), datum), None)

    def outbound(self, parcel: Parcel) -> OutboundRecord | None:
        """None while the id of its schema is not known."""
        topic, version, key, datum = parcel.record
        frame = self._frame(topic, version)
        if frame is None:
            return None
        name, header = frame
        return OutboundRecord(name, key, header + datum, SPOOLED if parcel.drained else (), parcel)

    def keyed(self, records: Sequence[SpoolRecord]) -> list[Keyed]:
        """As many of the first as the ids of their schemas are known of. Tuples: one is made for every record of a spool."""
        frames = {kind: self._frame(*kind) for kind in set(map(_kind, records))}
        found: list[Keyed] = []
        for topic, version, key, datum in records:
            frame = frames[topic, version]
            if frame is None:
                break
            found.append((frame[0], key, frame[1] + datum))
        return found

    def _frame(self, topic: str, version: int) -> tuple[str, bytes] | None:
        """The topic's full name, and what goes before each datum."""
        frame = self._frames.get((topic, version))
        if frame is None and (schema_id := self._ids.get(self._topics[topic], version)) is not None:
            frame = self._frames[topic, version] = self._names[topic], wire.header(schema_id)
        return frame


_kind = itemgetter(0, 1)
"""The topic of a spooled record, and its version."""


def _newest(topic: Topic) -> int:
    assert topic.record is not None, "an emitter's topics hold records"
    return contract(topic.record).newest.number
