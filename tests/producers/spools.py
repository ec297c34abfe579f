"""Emitters with a spool in a directory, for the producers' tests."""

import itertools
from collections.abc import Callable
from pathlib import Path

from producers.config import Durability, EmitterLimits, SpoolLimits
from producers.emitter import Emitter
from producers.spool.directory import SpoolRoot
from producers.spool.file_system import FileSystem, PosixFileSystem
from producers.spool.log import SpoolLog
from producers.spool.spool import Spool
from producers.spooling import Spooling
from producers.transport import Transport
from schemas.events import Micros, ProducerId
from tests.producers.event_samples import KnownSchemaIds

NUMBERS = itertools.count(1)
LIMITS = SpoolLimits(drain_events_s=1_000_000)
EMITTER_LIMITS = EmitterLimits()


def new_id() -> str:
    return f"00000000-0000-7000-8000-{next(NUMBERS):012x}"


class Clock:
    """Microseconds that move when they are read, and when they are told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> Micros:
        self.now += 1
        return Micros(self.now)


def open_log(
    root: Path, limits: SpoolLimits = LIMITS, now_us: Callable[[], Micros] | None = None, disk: FileSystem | None = None
) -> SpoolLog:
    return SpoolLog(
        SpoolRoot(root), ProducerId(new_id()), disk or PosixFileSystem(), limits, now_us=now_us or Clock(), new_id=new_id
    )


def spooling_emitter(
    root: Path,
    transport: Transport,
    durability: Durability,
    *,
    schema_ids: KnownSchemaIds | None = None,
    spool_limits: SpoolLimits = LIMITS,
    disk: FileSystem | None = None,
    limits: EmitterLimits = EMITTER_LIMITS,
) -> Emitter:
    clock = Clock()

    def opened(producer_id: ProducerId) -> Spooling:
        log = SpoolLog(SpoolRoot(root), producer_id, disk or PosixFileSystem(), spool_limits, now_us=clock, new_id=new_id)
        return Spooling(Spool(log), durability, spool_limits.drain_events_s)

    spool = None if durability is Durability.MEMORY else opened
    return Emitter(transport, schema_ids or KnownSchemaIds(), now_us=clock, new_id=new_id, limits=limits, spool=spool)
