"""A stretch of the spool on its way to the broker. Pure.

What is on disk already is booked by stretches: an object, a callback and a settlement for every record of its own would cost more
than sending it does.
"""

from collections import Counter
from operator import attrgetter

from producers.spool.frames import SpoolRecord
from producers.spool.log import Stretch

_topic = attrgetter("topic")


class Haul:
    """The records are offered in order; each that was taken is answered once, delivered or failed."""

    def __init__(self, stretch: Stretch) -> None:
        self.place, self._records = stretch
        self._offered = self._open = self._booked = 0
        self._elsewhere: Counter[str] = Counter()
        """By topic, those between `_booked` and `_offered` that were refused or failed."""
        self._by_datum: dict[bytes, SpoolRecord] = {}

    @property
    def done(self) -> bool:
        """Whether all were offered."""
        return self._offered == len(self._records)

    def rest(self, events_max: int) -> list[SpoolRecord]:
        """The next to be offered."""
        return self._records[self._offered : self._offered + events_max]

    def offer(self, events: int) -> None:
        """The next so many were taken."""
        self._offered += events
        self._open += events

    def skip(self) -> SpoolRecord:
        """The next was refused."""
        record = self._records[self._offered]
        self._offered += 1
        self._elsewhere[record.topic] += 1
        return record

    def deliver(self, events: int) -> None:
        self._open -= events

    def fail(self, value: bytes, header_bytes: int) -> SpoolRecord:
        """The record that went out as `value`. Two with the same content are the same record."""
        if not self._by_datum:
            self._by_datum = {record.datum: record for record in self._records}
        record = self._by_datum[value[header_bytes:]]
        self._open -= 1
        self._elsewhere[record.topic] += 1
        return record

    def arrived(self) -> Counter[str]:
        """How many were delivered, by topic, and not told of before. Nothing while any of them has no answer."""
        if self._open:
            return Counter()
        arrived = Counter(map(_topic, self._records[self._booked : self._offered])) - self._elsewhere
        self._booked = self._offered
        self._elsewhere.clear()
        return arrived
