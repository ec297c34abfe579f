"""Parts that die, stop, hang, refuse, or take an insert and do not say so."""

import threading
from random import Random

from tests.faults.arena import Arena
from tests.faults.inspection import ROW_TABLES
from tests.faults.plan import Effect, FaultClass, Moment, draw_faults
from tests.faults.poison import MISFRAMED
from tests.faults.records import Mix
from tests.faults.scenario import Extent, Plan, Scenario
from tests.faults.statements import Step

SINKS = 2
RECORDS_PER_POINT = 400
RECORDS_PER_S = 400
HANG_PER_OUTAGE = 2.0
"""A warehouse hangs for twice as long as it is stopped: longer than a sink waits for an answer."""
STRIKE_LIMIT_S = 60.0
"""A partition that has failed a few times in a row pauses between its tries."""
KAFKA_HANG_S = 5.0
WORK_LIMIT_S = 60.0

_MIX = Mix(poison=0.005, kinds=MISFRAMED, duplicates=0.05, newer_schema=0.3)
_INSERTS = (Step.INSERT, Step.INSERT_LETTERS)
_ANY_INSERT = tuple((step, moment) for step in _INSERTS for moment in (Moment.BEFORE, Moment.MIDWAY, Moment.APPLIED))
_WHOLE = tuple((step, moment) for step in (*_INSERTS, Step.FENCE) for moment in (Moment.BEFORE, Moment.APPLIED))
_APPLIED = tuple((step, Moment.APPLIED) for step in (*_INSERTS, Step.FENCE))
_BEFORE = tuple((step, Moment.BEFORE) for step in _INSERTS)

_WAREHOUSE = [
    FaultClass("warehouse killed at an insert", Effect.KILL_WAREHOUSE, _ANY_INSERT, 6),
    FaultClass("warehouse answers 500", Effect.REFUSE, _WHOLE, 6),
    FaultClass("warehouse hangs", Effect.HANG, _WHOLE, 6, (1.0, 8.0)),
    FaultClass("connection dropped after the request was applied", Effect.DROP, _APPLIED, 6),
    FaultClass("connection dropped in the middle of a body", Effect.DROP, ((Step.INSERT, Moment.MIDWAY),), 6),
    FaultClass("disk full (answered by the proxy)", Effect.NO_SPACE, _BEFORE, 6),
]
_SLOW = [FaultClass("connection dropped while the insert runs", Effect.DROP, ((Step.INSERT, Moment.RUNNING),), 4)]
_SLOWED = tuple(f"ALTER TABLE {table} ADD CONSTRAINT slow CHECK sleepEachRow(0.02) = 0" for table in ROW_TABLES)
"""Constraints are checked after the fence and before the rows are there: 60 rows linger between the two for 1.2 s."""
_REPEATS = [FaultClass("request sent twice", Effect.REPEAT, tuple((step, Moment.BEFORE) for step in (*_INSERTS, Step.FENCE)), 6)]


def _warehouse_plan(random: Random, extent: Extent) -> Plan:
    """The last one is a long hang."""
    seconds = (extent.outage_s * HANG_PER_OUTAGE,) * 2
    long_hang = FaultClass("warehouse hangs long", Effect.HANG, ((Step.INSERT, Moment.BEFORE),), 1, seconds)
    return [*draw_faults(random, _WAREHOUSE, extent.points), long_hang.draw(random)]


def _run_warehouse(arena: Arena, plan: Plan, extent: Extent) -> None:
    _meet_all(arena, plan, extent)
    with arena.traffic.trickling(RECORDS_PER_S):
        with arena.stack.stopped("warehouse"):
            _endure(extent.outage_s)
        arena.struck[f"warehouse stopped for {extent.outage_s:.0f} s"] += 1
        _expect_work(arena)


def _meet_all(arena: Arena, plan: Plan, _extent: Extent) -> None:
    for fault in plan:
        arena.traffic.send(RECORDS_PER_POINT)
        arena.meet(fault, SINKS, STRIKE_LIMIT_S)
        arena.stack.await_ready("warehouse")


def _slow_plan(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _SLOW, extent.points)


def _repeat_plan(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _REPEATS, extent.points)


def _no_plan(_random: Random, _extent: Extent) -> Plan:
    return []


def _run_broker(arena: Arena, _plan: Plan, extent: Extent) -> None:
    """Killed at moments that the seed gives, hung for longer than a session, then stopped; records wait at their producer.

    Each strikes sinks that are at work. A sink that finds no broker at its start ends: it is started again.
    """
    with arena.traffic.trickling(RECORDS_PER_S):
        for _ in range(extent.points):
            _expect_work(arena)
            _endure(arena.random.uniform(0.0, 2.0))
            arena.stack.kill("kafka")
            arena.stack.await_ready("kafka")
            arena.struck["broker killed"] += 1
        _expect_work(arena)
        with arena.stack.hanging("kafka"):
            _endure(KAFKA_HANG_S)
        arena.struck["broker hung"] += 1
        _expect_work(arena)
        with arena.stack.stopped("kafka"):
            _endure(extent.outage_s)
        arena.struck[f"broker stopped for {extent.outage_s:.0f} s"] += 1
        _expect_work(arena)


def _expect_work(arena: Arena) -> None:
    assert arena.goes_on(SINKS, WORK_LIMIT_S), f"the sinks insert again within {WORK_LIMIT_S:.0f} s"


def _endure(seconds: float) -> None:
    """Let time pass: it is the fault."""
    threading.Event().wait(seconds)


WAREHOUSE = Scenario(
    name="warehouse",
    shows="The warehouse killed at inserts, stopped, answering 500, hanging, out of space, and dropping connections",
    plan=_warehouse_plan,
    run=_run_warehouse,
    points=15,
    outage_s=60.0,
    mix=_MIX,
)
SLOW = Scenario(
    name="slow-warehouse",
    shows="Inserts that have passed the fence and linger, while whoever sent them has lost the connection and begins anew",
    plan=_slow_plan,
    run=_meet_all,
    points=8,
    mix=_MIX,
    sql=_SLOWED,
    healing_sql=tuple(f"ALTER TABLE {table} DROP CONSTRAINT slow" for table in ROW_TABLES),
)
REPEAT = Scenario(
    name="repeat",
    shows="A proxy that sends requests twice: the one case in which the tables' second line is meant to heal",
    plan=_repeat_plan,
    run=_meet_all,
    points=8,
    mix=_MIX,
    second_line=True,
)
BROKER = Scenario(
    name="broker",
    shows="The broker killed, hung and stopped under load",
    plan=_no_plan,
    run=_run_broker,
    points=4,
    outage_s=60.0,
    mix=_MIX,
)
