"""How fast a spool empties itself into a broker, and what bounds it: reading alone, and the client alone."""

import gc
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer

from producers.config import Durability, SpoolLimits
from producers.encoding import SPOOLED
from producers.kafka_transport import DEFAULT_OPTIONS
from producers.main import emitter_from_environment, new_id, now_us
from producers.spool.directory import SpoolRoot
from producers.spool.file_system import PosixFileSystem
from producers.spool.frames import SpoolRecord
from producers.spool.log import SpoolLog
from producers.spool.spool import READ_STRETCHES, STRETCH_EVENTS
from schemas.codec import Codec
from schemas.events import ProducerId
from tests.benchmarks.figures import Spread
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_least
from tests.benchmarks.workloads import WORKLOADS, Workload
from tests.waiting import eventually

EVENTS, QUICK_EVENTS = 400_000, 5_000
TURNS, QUICK_TURNS = 3, 1
EVENTS_S_MIN = 100_000
LIMIT_S = 120.0
WRITE_EVENTS = 1_000
NAMES = ("flat", "nested")
DRAIN, READ, WRITE, PRODUCE = "drained into Kafka", "read and checked", "written to disk", "the client alone, reports taken"
_HOW = """Events that another emitter has left on disk, adopted and sent by one with its defaults but for the rate, which is not
capped; the clock runs from its start to the broker's last acknowledgement. What the benchmark itself holds, a copy of all events,
is kept from the garbage collector, which would walk it on the emitter's time. Beside it what it is made of: writing them in
batches, reading them back with every CRC checked, and librdkafka's producer with the same bytes, header, options and a callback
for each report, and nothing else."""


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    """Events a second, by workload and step, turn by turn."""
    events, turns = (QUICK_EVENTS, QUICK_TURNS) if asked.quick else (EVENTS, TURNS)
    measured: dict[str, Any] = {"events": events}
    for name in NAMES:
        rates: dict[str, list[float]] = {DRAIN: [], WRITE: [], READ: [], PRODUCE: []}
        for turn in range(turns):
            with ground.place(f"spool_{name}_{turn}") as place, tempfile.TemporaryDirectory(prefix="tailrace-spool-") as root:
                for step, rate in _turn(place, Path(root), WORKLOADS[name], events):
                    rates[step].append(rate)
                    ground.say(f"spool {name} {turn + 1}/{turns} {step}: {rate:,.0f} events/s")
        measured[name] = rates
    return measured


def present(measured: Mapping[str, Any]) -> Section:
    spreads = {f"{name}: {step}": Spread.of(rates) for name in NAMES for step, rates in measured[name].items()}
    rows = [(step, f"{it.median:,.0f}", f"{it.least:,.0f}", f"{it.most:,.0f}") for step, it in spreads.items()]
    targets = [at_least(f"{name}: {DRAIN}", EVENTS_S_MIN, median(measured[name][DRAIN]), "events/s") for name in NAMES]
    return Section("Emptying the spool", _HOW, [Table(("events/s", "median", "least", "most"), rows)], targets)


def _turn(place: Place, root: Path, workload: Workload, events: int) -> Iterator[tuple[str, float]]:
    records = _records(workload, events)
    gc.collect()
    gc.freeze()
    root_of = partial(SpoolRoot, root, place.topic(workload.topic).removesuffix(workload.topic.name))
    yield WRITE, events / _timed(lambda: _fill(root_of(), records))
    yield READ, events / _timed(lambda: _read(root_of(), events))
    yield PRODUCE, events / _timed(lambda: _produce(place, workload, records))
    yield DRAIN, events / _timed(lambda: _drain(place, root, events))
    gc.unfreeze()


def _timed(step: Any) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _records(workload: Workload, events: int) -> list[SpoolRecord]:
    made = [workload.make(number) for number in range(events)]
    codec: Codec[Any] = Codec(type(made[0]))
    return [SpoolRecord(workload.topic.name, 1, event.unit_id.encode(), codec.encode_datum(event)) for event in made]


def _log(root: SpoolRoot) -> SpoolLog:
    return SpoolLog(root, ProducerId(new_id()), PosixFileSystem(), SpoolLimits(), now_us=now_us, new_id=new_id)


def _fill(root: SpoolRoot, records: list[SpoolRecord]) -> None:
    log = _log(root)
    for first in range(0, len(records), WRITE_EVENTS):
        log.append(records[first : first + WRITE_EVENTS], held=False)
    log.close()


def _read(root: SpoolRoot, events: int) -> None:
    """Nothing is settled, so everything is left as it was."""
    log = _log(root)
    log.tend()
    found = 0
    while stretches := log.read(READ_STRETCHES, STRETCH_EVENTS):
        found += sum(len(stretch.records) for stretch in stretches)
    assert found == events, "all of them are read"
    log.forget()


def _produce(place: Place, workload: Workload, records: list[SpoolRecord]) -> None:
    topic = place.topic(workload.topic)
    reported: list[None] = []
    headers: list[tuple[str, str | bytes | None]] = [*SPOOLED]
    producer = Producer({**DEFAULT_OPTIONS, "bootstrap.servers": place.variables["TAILRACE_KAFKA_BOOTSTRAP"]})
    for record in records:
        while True:
            try:
                producer.produce(topic, record.datum, record.key, on_delivery=partial(_report, reported), headers=headers)
                break
            except BufferError:
                producer.poll(0.01)
        if len(reported) % 250 == 0:
            producer.poll(0)
    producer.flush(LIMIT_S)
    assert len(reported) == len(records), "all of them are reported"


def _report(reported: list[None], *_told: object) -> None:
    reported.append(None)


def _drain(place: Place, root: Path, events: int) -> None:
    emitter = emitter_from_environment(
        {
            **place.variables,
            "TAILRACE_SPOOL_DIR": str(root),
            "TAILRACE_EMITTER_DURABILITY": Durability.SPOOL_ON_ERROR,
            "TAILRACE_SPOOL_DRAIN_EVENTS_S": "10000000",
        }
    )
    try:
        assert eventually(lambda: emitter.status().dispatched.drained >= events, LIMIT_S), emitter.status()
    finally:
        emitter.close(10.0)
