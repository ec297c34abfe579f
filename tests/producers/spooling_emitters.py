"""Emitters with a spool, what is emitted with them, and what has become of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from producers.config import Durability
from producers.emitter import Emitter
from producers.spool.spool import SpoolStatus
from producers.transport import OutboundRecord, Transport
from tests.producers.event_samples import SERVED, served_of
from tests.producers.spools import spooling_emitter

WAIT_S = 10.0
SPOOLING = (Durability.SPOOL_ON_ERROR, Durability.WRITE_AHEAD)


Start = Callable[..., Emitter]


@contextmanager
def emitters(tmp_path: Path) -> Iterator[Start]:
    made: list[Emitter] = []

    def begin(transport: Transport, durability: Durability, **options: Any) -> Emitter:
        made.append(spooling_emitter(tmp_path, transport, durability, **options))
        return made[-1]

    yield begin
    for emitter in made:
        emitter.close(0.0)


def emit(emitter: Emitter, first: int, end: int) -> None:
    for number in range(first, end):
        assert emitter.emit(replace(SERVED, surface=f"s{number}"))


def surfaces(records: list[OutboundRecord]) -> list[str]:
    return [event.surface for event in served_of(records)]


def named(first: int, end: int) -> list[str]:
    return [f"s{number}" for number in range(first, end)]


def books(emitter: Emitter) -> tuple[int, int, int, int, dict[str, int]]:
    topic = emitter.status().topics[0]
    return topic.emitted, topic.acknowledged, topic.queued, topic.spooled, dict(topic.dropped)


def downgrades(emitter: Emitter) -> int:
    return spool_of(emitter).downgrades


def spool_of(emitter: Emitter) -> SpoolStatus:
    spool = emitter.status().spool
    assert spool is not None, "the emitter has one"
    return spool
