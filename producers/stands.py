"""Topics that take nothing for reasons of their own, while others go on; and when each of them is tried again.

A stand begins with a refusal and ends with an acknowledgement. While it lasts a single record at a time tries the topic, after a
pause that grows: a try counts as refused until it is acknowledged.
"""

import logging
from collections.abc import Callable, Iterable
from itertools import takewhile

from producers.diversion import Diversion
from producers.spool.frames import SpoolRecord

logger = logging.getLogger(__name__)


class Stands:
    """By topic, without its prefix."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._topics: dict[str, Diversion] = {}

    def __len__(self) -> int:
        return len(self._topics)

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def may_go(self, topic: str) -> bool:
        """Whether a record of `topic` may be offered now."""
        stand = self._topics.get(topic)
        return stand is None or stand.may_probe(self._monotonic())

    def tried(self, topic: str) -> None:
        """A record of `topic` is on its way."""
        if (stand := self._topics.get(topic)) is not None:
            stand.failed(self._monotonic())

    def before(self, records: list[SpoolRecord]) -> list[SpoolRecord]:
        """As many of the first as are of topics that take them."""
        return list(takewhile(lambda record: record.topic not in self._topics, records)) if self._topics else records

    def refused(self, topic: str, why: str) -> None:
        if topic not in self._topics:
            logger.warning("%s takes nothing for now, its events wait on disk; it is tried again: %s", topic, why)
        self._topics.setdefault(topic, Diversion()).failed(self._monotonic())

    def acknowledged(self, topics: Iterable[str]) -> None:
        for topic in self._topics.keys() & set(topics):
            del self._topics[topic]
            logger.info("%s takes events again", topic)
