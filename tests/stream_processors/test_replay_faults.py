"""kill -9 of a run and of its verification at seeded points of what they ask of the warehouse, beside a live sink and a producer.

Some of the killed processes' requests arrive late, when a successor has inserted. TAILRACE_REPLAY_FAULT_POINTS=100 is long.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from urllib.parse import urlsplit

import pytest

from deploy.settings import WAREHOUSE_URL
from tests.faults.plan import Effect, Fault, FaultClass, Moment, draw_faults
from tests.faults.proxy import FaultProxy
from tests.faults.statements import Step
from tests.faults.strikes import Strikes
from tests.stream_processors.replay_fixture import TABLE, asked, checksum, letters, planned, table_of, tailrace
from tests.stream_processors.warehouse_fixture import CLASSIC, Bench, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SEED = 7
POINTS = int(os.environ.get("TAILRACE_REPLAY_FAULT_POINTS", "7"))
RECORDS = 1600
BATCH_ROWS = 40
LIMIT_S = 90
_AFTER = (Moment.APPLIED, Moment.ANSWERED)
_EVERYWHERE = (Moment.BEFORE, *_AFTER)


def _shapes(moments: tuple[Moment, ...], *steps: Step) -> tuple[tuple[Step, Moment], ...]:
    return tuple((step, moment) for step in steps for moment in moments)


CLASSES = [
    FaultClass("run: at the fence", Effect.KILL_SINK, _shapes(_EVERYWHERE, Step.FENCE), 4),
    FaultClass("run: owning", Effect.KILL_SINK, _shapes(_EVERYWHERE, Step.DRAIN, Step.RECONCILE), 4),
    FaultClass("run: mid-POST", Effect.KILL_SINK, _shapes((Moment.MIDWAY,), Step.INSERT), 6),
    FaultClass("run: a late POST", Effect.KILL_SINK, _shapes((Moment.LATE,), Step.INSERT), 4),
    FaultClass("run: after an insert", Effect.KILL_SINK, _shapes(_AFTER, Step.INSERT), 6),
    FaultClass("run: its log and tables", Effect.KILL_SINK, _shapes(_EVERYWHERE, Step.OTHER), 6),
    FaultClass("verify", Effect.KILL_SINK, _shapes(_EVERYWHERE, Step.RECONCILE, Step.OTHER), 3),
]


class Arena:
    """One bench behind a proxy; a process at a time."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        address = urlsplit(bench.environment[WAREHOUSE_URL])
        assert address.hostname is not None
        assert address.port is not None
        self.proxy = FaultProxy(address.hostname, address.port, Strikes())
        self.proxy.act = lambda _fault, _name: self.process.kill()
        through = address._replace(netloc=f"{address.netloc.rpartition('@')[0]}@127.0.0.1:{self.proxy.open('run')}")
        self.environment = {**bench.environment, WAREHOUSE_URL: through.geturl()}
        self.process: subprocess.Popen[bytes]
        self.struck: list[str] = []

    def strike(self, run: str, fault: Fault) -> None:
        """Start what is to be killed, and wait for its end: it may be done before its request comes."""
        command = ("verify", run) if fault.label == "verify" else ("run", run, "--batch-rows", str(BATCH_ROWS))
        armed = self.proxy.strikes.arm(fault)
        self.process = subprocess.Popen(
            self.bench.command("replay", *command), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.process.wait(LIMIT_S)
        self.proxy.strikes.disarm()
        if armed.struck.is_set():
            self.struck.append(str(fault))


@contextmanager
def live_traffic(bench: Bench) -> Iterator[list[int]]:
    """A sink and a producer that go on; all that was written is in, once, when the block has ended."""
    environment = {**bench.environment, "TAILRACE_KAFKA_OPTIONS": CLASSIC}
    sink = subprocess.Popen(bench.command("sink"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended, written = threading.Event(), [RECORDS]

    def produce() -> None:
        while not ended.wait(0.2):
            bench.produce(interactions(bench, 20, first=written[0]))
            written[0] += 20

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield written
    finally:
        ended.set()
        thread.join()
        everything = eventually(lambda: bench.counts() == (written[0], written[0]), LIMIT_S)
        sink.send_signal(signal.SIGTERM)
        sink.wait(LIMIT_S)
    assert everything, f"{bench.counts()} of {written[0]}"


def test_killed_anywhere_a_run_has_everything_once_and_live_never_notices(bench: Bench) -> None:
    values: list[bytes | None] = list(interactions(bench, RECORDS))
    values[400:400] = [b"no frame", None, b"\x00\x00\x00\xff\xffno schema"]
    bench.produce(values)
    bench.drain()
    arena, ends = Arena(bench), _ends(bench)
    run = planned(bench, "--to", ends)
    runs = [run]

    with live_traffic(bench):
        for fault in draw_faults(Random(SEED), CLASSES, POINTS):
            if fault.label != "verify" and asked(bench, "replay", "show", run, "--json").fields["state"] == "filled":
                run = planned(bench, "--to", ends)
                runs.append(run)
            if fault.label == "verify":
                assert tailrace(bench, "replay", "run", run).code == 0
            arena.strike(run, fault)
        for each in runs:
            said = tailrace(bench, "replay", "run", each)
            assert said.code == 0, said.err
        assert eventually(lambda: arena.proxy.held == 0, LIMIT_S), "what was late has arrived"

        for each in runs:
            found = asked(bench, "replay", "verify", each, "--json").fields
            assert (found["sound"], found["equal"]) == (True, True), (each, arena.struck)
    arena.proxy.close()

    assert len(arena.struck) >= POINTS * 0.7, arena.struck
    for each in runs:
        assert bench.counts(table_of(each)) == (RECORDS, RECORDS), "counted without FINAL"
        assert len(letters(bench, each)) == 3
    assert len({checksum(bench, table_of(each)) for each in runs}) == 1
    assert bench.counts(TABLE)[0] > RECORDS


def _ends(bench: Bench) -> str:
    """Of all partitions, as --to takes them: what comes later is the live sink's."""
    ends = bench.rows(
        "SELECT _partition, max(_offset) + 1 FROM (SELECT _partition, _offset FROM interactions"
        " UNION ALL SELECT _partition, _offset FROM dead_letters) GROUP BY 1 ORDER BY 1"
    )
    return ",".join(f"{partition}:{end}" for partition, end in ends)
