"""All parts, in the order in which they run."""

from collections.abc import Mapping
from types import MappingProxyType

from tests.benchmarks import (
    archive,
    assignment,
    emit,
    encoding,
    isolation,
    latency,
    outage,
    overhead,
    poison,
    replay,
    serving,
    spool,
    swap,
    throughput,
)
from tests.benchmarks.part import Part

PARTS: Mapping[str, Part] = MappingProxyType(
    {
        part.name: part
        for part in (
            Part("throughput", throughput.measure, throughput.present),
            Part("overhead", overhead.measure, overhead.present),
            Part("latency", latency.measure, latency.present),
            Part("poison", poison.measure, poison.present),
            Part("outage", outage.measure, outage.present),
            Part("encoding", encoding.measure, encoding.present),
            Part("emit", emit.measure, emit.present),
            Part("spool", spool.measure, spool.present),
            Part("assignment", assignment.measure, assignment.present),
            Part("isolation", isolation.measure, isolation.present),
            Part("replay", replay.measure, replay.present),
            Part("swap", swap.measure, swap.present),
            Part("archive", archive.measure, archive.present),
            Part("serving", serving.measure, serving.present),
        )
    }
)
