"""What producers may write: poison of every kind, duplicates, odd clocks, versions side by side, aborted transactions."""

from random import Random

from tests.faults.arena import Arena
from tests.faults.plan import Effect, FaultClass, Moment, draw_faults
from tests.faults.records import Mix
from tests.faults.scenario import Extent, Plan, Scenario
from tests.faults.statements import Step

SINKS = 2
RECORDS_PER_POINT = 2000
TRANSACTION_RECORDS_PER_POINT = 400
ABORTED_SHARE = 0.4
STRIKE_LIMIT_S = 60.0

_MOMENTS = (Moment.BEFORE, Moment.APPLIED, Moment.ANSWERED)
_CLASSES = [
    FaultClass("kill at a dead letter", Effect.KILL_SINK, tuple((Step.INSERT_LETTERS, moment) for moment in _MOMENTS), 3),
    FaultClass("kill at an insert", Effect.KILL_SINK, tuple((Step.INSERT, moment) for moment in (*_MOMENTS, Moment.MIDWAY)), 12),
    FaultClass("kill in the reconciliation", Effect.KILL_SINK, tuple((Step.RECONCILE, moment) for moment in _MOMENTS), 4),
]


def _plan(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _CLASSES, extent.points)


def _run(arena: Arena, plan: Plan, _extent: Extent) -> None:
    for fault in plan:
        arena.traffic.send(RECORDS_PER_POINT)
        arena.meet(fault, SINKS, STRIKE_LIMIT_S)


def _run_with_transactions(arena: Arena, plan: Plan, _extent: Extent) -> None:
    for fault in plan:
        arena.traffic.send_in_transactions(TRANSACTION_RECORDS_PER_POINT, ABORTED_SHARE)
        arena.traffic.send(RECORDS_PER_POINT)
        arena.meet(fault, SINKS, STRIKE_LIMIT_S)


POISON = Scenario(
    name="poison",
    shows="1 % poison of every kind, and sinks killed in the middle of it",
    plan=_plan,
    run=_run,
    points=6,
    mix=Mix(poison=0.01),
    batch_rows=500,
)
RARE_POISON = Scenario(
    name="rare-poison",
    shows="0.1 % poison of every kind, and sinks killed in the middle of it",
    plan=_plan,
    run=_run,
    points=6,
    mix=Mix(poison=0.001),
    batch_rows=500,
)
HOSTILE = Scenario(
    name="hostile-producers",
    shows="5 % duplicates, events out of order, clocks years off, schema versions side by side, aborted transactions; kills",
    plan=_plan,
    run=_run_with_transactions,
    points=6,
    mix=Mix(poison=0.002, duplicates=0.05, odd_clocks=0.1, newer_schema=0.5),
    batch_rows=500,
)
