"""Sinks killed -9 at every step of the protocol, alone, or with the warehouse while the group's offsets are tampered with."""

from random import Random

from tests.faults.arena import Arena
from tests.faults.group_offsets import tamper
from tests.faults.plan import Effect, Fault, FaultClass, Moment, Shape, draw_faults
from tests.faults.poison import MISFRAMED
from tests.faults.records import Mix
from tests.faults.scenario import Extent, Plan, Scenario
from tests.faults.statements import Step

SINKS = 2
RECORDS_PER_POINT = 400
TAMPER_EVERY = 3
LATE = "before a POST that arrives late"
REBALANCE = "during a rebalance"

_AFTER = (Moment.APPLIED, Moment.ANSWERED)
_MIX = Mix(poison=0.01, kinds=MISFRAMED, duplicates=0.05, newer_schema=0.5)


def _shapes(moments: tuple[Moment, ...], *steps: Step) -> tuple[Shape, ...]:
    return tuple((step, moment) for step in steps for moment in moments)


def _classes(effect: Effect) -> list[FaultClass]:
    """The classes of the issue, and what nth_max must be for some work to be done between two kills."""
    everywhere = (Moment.BEFORE, *_AFTER)
    return [
        FaultClass("before the fence", effect, ((Step.FENCE, Moment.BEFORE),), 4),
        FaultClass("after the fence", effect, _shapes(_AFTER, Step.FENCE), 4),
        FaultClass("in the drain", effect, _shapes(everywhere, Step.DRAIN), 4),
        FaultClass("in the reconciliation", effect, _shapes(everywhere, Step.RECONCILE, Step.READ_LETTERS), 4),
        FaultClass("mid-POST", effect, ((Step.INSERT, Moment.MIDWAY),), 6),
        FaultClass(LATE, effect, ((Step.INSERT, Moment.BEFORE), (Step.INSERT, Moment.LATE)), 6, (0.1, 4.0)),
        FaultClass("after an insert, before its commit", effect, _shapes(_AFTER, Step.INSERT), 6),
        FaultClass("between the inserts of one batch", effect, _shapes(_AFTER, Step.INSERT_LETTERS), 4),
        FaultClass(REBALANCE, effect, _shapes((Moment.ANSWERED,), Step.FENCE, Step.DRAIN, Step.INSERT), 5),
    ]


def _plan(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _classes(Effect.KILL_SINK), extent.points)


def _plan_with_warehouse(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _classes(Effect.KILL_BOTH), extent.points)


def _late_plan(random: Random, extent: Extent) -> Plan:
    late = FaultClass(LATE, Effect.KILL_SINK, _shapes((Moment.LATE,), Step.INSERT, Step.INSERT_LETTERS), 6)
    return draw_faults(random, [late], extent.points)


def _run(arena: Arena, plan: Plan, _extent: Extent) -> None:
    for fault in plan:
        _strike(arena, fault)


def _strike(arena: Arena, fault: Fault) -> None:
    """One kill, with records to be read and all sinks up. During a rebalance: one more joins at that moment."""
    arena.traffic.send(RECORDS_PER_POINT)
    arena.meet(fault, SINKS + (fault.label == REBALANCE))


def _run_with_tampering(arena: Arena, plan: Plan, _extent: Extent) -> None:
    """After every few kills nobody is left alive, and the group's offsets are not what they were."""
    for number, fault in enumerate(plan, 1):
        _strike(arena, fault)
        arena.stack.await_ready("warehouse")
        if number % TAMPER_EVERY == 0:
            arena.fleet.kill_all()
            arena.struck[f"offsets {tamper(arena)}"] += 1


KILL = Scenario(
    name="kill",
    shows="kill -9 of the sink at every step of the protocol",
    plan=_plan,
    run=_run,
    points=102,
    protocols=("classic", "kip848"),
    mix=_MIX,
)
KILL_BOTH = Scenario(
    name="kill-both",
    shows="kill -9 of sink and warehouse at once; the group's offsets reset, deleted, moved back, their metadata lost",
    plan=_plan_with_warehouse,
    run=_run_with_tampering,
    points=18,
    mix=_MIX,
)
LATE_POSTS = Scenario(
    name="late-posts",
    shows="Inserts that arrive when their sender is dead and its successor has inserted",
    plan=_late_plan,
    run=_run,
    points=8,
    mix=_MIX,
)
