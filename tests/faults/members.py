"""The group in unrest: members that come and go, and members that sleep past their session and wake with their work unsent."""

import threading
import time
from random import Random

from tests.faults.arena import Arena
from tests.faults.plan import Effect, FaultClass, Moment, draw_faults
from tests.faults.poison import MISFRAMED
from tests.faults.records import Mix
from tests.faults.scenario import Extent, Plan, Scenario
from tests.faults.statements import Step

STORM_INTERVAL_S = 2.0
STORM_SINKS = (1, 3)
"""Fewest and most members of a storm."""
STORM_RECORDS_PER_S = 400
STORM_PAUSE_LIMIT_S = 30.0
SLEEPER_SINKS = 3
RECORDS_PER_POINT = 400
SLEEP_S = 4.0
"""More than twice a session."""

_MIX = Mix(poison=0.003, kinds=MISFRAMED, duplicates=0.05)
_SLEEPS = [
    FaultClass("asleep with its insert unsent", Effect.STOP_SINK, ((Step.INSERT, Moment.BEFORE),), 6, (SLEEP_S + 1, SLEEP_S + 3)),
    FaultClass("asleep after its reconciliation", Effect.STOP_SINK, ((Step.READ_LETTERS, Moment.ANSWERED),), 4),
    FaultClass("asleep after its fence", Effect.STOP_SINK, ((Step.FENCE, Moment.ANSWERED),), 4),
    FaultClass("asleep before it hears of its insert", Effect.STOP_SINK, ((Step.INSERT, Moment.APPLIED),), 6),
]


def _no_plan(_random: Random, _extent: Extent) -> Plan:
    return []


def _run_storm(arena: Arena, _plan: Plan, extent: Extent) -> None:
    arena.fleet.ensure(STORM_SINKS[0])
    ending_s = time.monotonic() + extent.outage_s
    with arena.traffic.trickling(STORM_RECORDS_PER_S):
        while time.monotonic() < ending_s:
            arena.struck[_shift(arena)] += 1
            threading.Event().wait(STORM_INTERVAL_S)


def _shift(arena: Arena) -> str:
    """One member more or one fewer; those that go, go in either way."""
    fewest, most = STORM_SINKS
    members = arena.fleet.alive
    if len(members) <= fewest or (len(members) < most and arena.random.random() < 0.5):
        arena.fleet.start()
        return "joined"
    leaver = arena.random.choice(members)
    if arena.random.random() < 0.5:
        arena.fleet.kill(leaver.name)
        return "killed"
    arena.fleet.ask_to_leave(leaver.name)
    return "asked to leave"


def _sleeper_plan(random: Random, extent: Extent) -> Plan:
    return draw_faults(random, _SLEEPS, extent.points)


def _run_sleepers(arena: Arena, plan: Plan, _extent: Extent) -> None:
    """Each sleeps past its session, while others take over; then it wakes and goes on where it was.

    One is killed before, so that there is somebody who takes over and can fall asleep at that.
    """
    for fault in plan:
        arena.traffic.send(RECORDS_PER_POINT)
        if members := arena.fleet.alive:
            arena.fleet.kill(arena.random.choice(members).name)
        name = arena.meet(fault, SLEEPER_SINKS)
        with arena.traffic.trickling(STORM_RECORDS_PER_S):
            threading.Event().wait(SLEEP_S)
            if name is not None:
                arena.fleet.wake(name)
            threading.Event().wait(STORM_INTERVAL_S)


STORM = Scenario(
    name="storm",
    shows="A member joins, leaves or is killed every two seconds; there is progress in every 30 s",
    plan=_no_plan,
    run=_run_storm,
    points=0,
    outage_s=40.0,
    mix=_MIX,
    pause_limit_s=STORM_PAUSE_LIMIT_S,
    protocols=("classic", "kip848"),
)
SLEEPER = Scenario(
    name="sleeper",
    shows="An owner stopped until its session has expired and others own its partitions, then woken with its work unsent",
    plan=_sleeper_plan,
    run=_run_sleepers,
    points=6,
    mix=_MIX,
    protocols=("classic", "kip848"),
)
