"""Explores every world that a configuration can reach, breadth first: what it finds wrong, it finds by a shortest way.

Two questions. Safety: can a violation happen? Progress: does every world that can be reached have a continuation without faults
after which everything is in, announced and committed?
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from stream_processors.warehouse.protocol import Step
from tests.protocol.sinks import Sinks
from tests.protocol.table import Advance, Table
from tests.protocol.warehouse import Warehouse
from tests.protocol.world import Move, Rules, Violation, World, below, canonical, without_the_hopeless

_NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an exploration came to. `trace` is a shortest way to the violation, in words."""

    states: int
    violation: Violation | None
    trace: tuple[str, ...]
    complete: bool
    """Whether all that can be reached was gone through."""
    steps: frozenset[Step]
    """Those that some sink was seen in."""


class Explorer:
    def __init__(self, advance: Advance, rules: Rules) -> None:
        self._rules, self._table = rules, Table(advance)
        self._sinks = Sinks(self._table, rules)
        self._warehouse = Warehouse(self._sinks, rules)
        resting = self._sinks.resting(0)
        self._start = World((resting, resting))
        self._worlds: list[World] = []
        self._numbers: dict[World, int] = {}
        self._parents = array("l")
        self._from, self._to = array("l"), array("l")

    def run(self, states_max: int) -> Verdict:
        self._meet(self._start, _NO_PARENT)
        number = 0
        while number < len(self._worlds):
            if len(self._worlds) > states_max:
                return self._verdict(None, (), complete=False)
            if (found := self._expand(number)) is not None:
                return self._verdict(found, self._trace(number, found), complete=False)
            number += 1
        if (stuck := self._stuck()) is not None:
            return self._verdict(Violation.STUCK, self._trace(stuck, None), complete=True)
        return self._verdict(None, (), complete=True)

    def _verdict(self, violation: Violation | None, trace: tuple[str, ...], *, complete: bool) -> Verdict:
        return Verdict(len(self._worlds), violation, trace, complete, frozenset(self._table.steps))

    def _canonical(self, world: World) -> World:
        return canonical(world, self._rules, alike=not self._rules.alone)

    def _moves(self, world: World) -> Iterator[Move]:
        yield from self._warehouse.moves(world)
        yield from self._sinks.moves(world, 0)
        yield from self._sinks.moves(world, 1)

    def _expand(self, number: int) -> Violation | None:
        for move in self._moves(self._worlds[number]):
            if move.violation is not None:
                return move.violation
            target = self._meet(move.world, number)
            if not move.fault and not (self._rules.alone and move.actor == 1):
                self._from.append(number)
                self._to.append(target)
        return None

    def _meet(self, world: World, parent: int) -> int:
        if (known := self._numbers.get(world)) is not None:
            return known
        world = self._canonical(world)
        number = self._numbers.get(world)
        if number is None:
            number = self._numbers[world] = len(self._worlds)
            self._worlds.append(world)
            self._parents.append(parent)
        return number

    def _stuck(self) -> int | None:
        """The first world from which no way without faults leads to the end."""
        leading: list[list[int]] = [[] for _ in self._worlds]
        for source, target in zip(self._from, self._to, strict=True):
            leading[target].append(source)
        good = bytearray(len(self._worlds))
        todo = [number for number, world in enumerate(self._worlds) if self._all_in(world)]
        while todo:
            number = todo.pop()
            if not good[number]:
                good[number] = 1
                todo += leading[number]
        return good.index(0) if 0 in good else None

    def _all_in(self, world: World) -> bool:
        records = self._rules.records
        wanted = below(records) << world.topic * records
        committed = world.issued >> world.topic * (records + 1) + records & 1
        return bool(committed) and not wanted & ~(world.rows | world.letters) and not wanted & world.letters & ~world.announced

    def _trace(self, number: int, violation: Violation | None) -> tuple[str, ...]:
        """The way from the start to a world, walked again with owners and sinks under the names that they keep."""
        path = [number]
        while self._parents[path[-1]] != _NO_PARENT:
            path.append(self._parents[path[-1]])
        world, labels = self._start, []
        for step in reversed(path[:-1]):
            move = next(move for move in self._moves(world) if self._canonical(move.world) == self._worlds[step])
            labels.append(move.label)
            world = without_the_hopeless(move.world, self._rules)
        if violation is not None:
            labels.append(next(move.label for move in self._moves(world) if move.violation is violation))
        return tuple(labels)
