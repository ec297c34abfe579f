"""What the network and the warehouse do with a request, and what befalls the two of them.

An insert arrives, registers among the running ones, is checked (fence, data), lands; with blocks of one record it is checked and
lands record by record. Any request may be late, lose its answer, or never arrive, whatever became of its sender.
"""

from collections.abc import Callable, Iterator

from tests.protocol.sinks import Sinks
from tests.protocol.world import (
    ADMITTED,
    FENCE_WRITE,
    LETTERS,
    NOBODY,
    PASSED,
    ROWS,
    RUNNING,
    SENT,
    Move,
    Request,
    Rules,
    Sink,
    Violation,
    World,
    offsets,
)

_WORLD = -1


class Warehouse:
    def __init__(self, sinks: Sinks, rules: Rules) -> None:
        self._sinks, self._rules = sinks, rules

    def moves(self, world: World) -> Iterator[Move]:
        for index, request in enumerate(world.requests):
            if request not in world.requests[:index]:
                rest = world._replace(requests=world.requests[:index] + world.requests[index + 1 :])
                yield from self._request(world, rest, request)
        yield from self._restart(world)
        if self._rules.flips and self._rules.poison:
            turned = "unreadable" if world.readable else "readable"
            yield _fault(f"poison turns {turned}", world._replace(readable=1 - world.readable))
        if self._rules.recreates and world.topic == 0:
            yield _fault("the topic is deleted and made anew", world._replace(topic=1))

    def _request(self, world: World, rest: World, request: Request) -> Iterator[Move]:
        """`rest` is the world without the request."""
        name = _name(request)
        if request.kind == FENCE_WRITE:
            yield from self._fence_write(rest, request, name)
        else:
            yield from self._insert(rest, request, name)
        if request.sender >= 0:
            late = _with(rest, request._replace(sender=-1))
            yield from self._answer(late, request, self._failed, f"sink {request.sender} gets no answer to {name}", fault=True)
        if request.phase == SENT:
            lost = f"{name} is lost on its way"
            yield from self._answer(rest, request, self._failed, lost, fault=request.sender >= 0)
            yield from self._repeated(world, request, name)

    def _fence_write(self, rest: World, request: Request, name: str) -> Iterator[Move]:
        fences = list(rest.fences)
        fences[0 if self._rules.coordinates_without_topic else request.topic] = request.owner
        yield from self._answer(rest._replace(fences=tuple(fences)), request, self._sinks.done, f"{name} takes effect")

    def _insert(self, rest: World, request: Request, name: str) -> Iterator[Move]:
        if request.phase == SENT:
            yield from self._arrives(rest, request, name)
        elif request.phase == ADMITTED:
            yield Move(f"{name} registers, checked already", False, _WORLD, _with(rest, request._replace(phase=PASSED)))
        elif request.phase == RUNNING:
            yield from self._checked(rest, request, name, PASSED)
            if self._poisoned(rest, request):
                yield from self._answer(rest, request, self._blamed, f"{name} is refused: poison")
        else:
            yield from self._lands(rest, request, name)
            yield from self._answer(rest, request, self._failed, f"{name} fails", fault=True)

    def _arrives(self, rest: World, request: Request, name: str) -> Iterator[Move]:
        if self._rules.checked_before_running:
            yield from self._checked(rest, request, name, ADMITTED)
        else:
            yield Move(f"{name} registers", False, _WORLD, _with(rest, request._replace(phase=RUNNING)))

    def _checked(self, rest: World, request: Request, name: str, phase: int) -> Iterator[Move]:
        fence = rest.fences[0 if self._rules.coordinates_without_topic else request.topic]
        if not self._rules.guard_missing and fence != request.owner:
            yield from self._answer(rest, request, self._failed, f"{name} is refused: not the owner")
        elif not self._poisoned(rest, request):
            yield Move(f"{name} passes the check", False, _WORLD, _with(rest, request._replace(phase=phase)))

    def _poisoned(self, world: World, request: Request) -> bool:
        return request.kind == ROWS and not world.readable and bool(self._block(request) & self._rules.poison)

    def _block(self, request: Request) -> int:
        """The records that are checked, and land, as one."""
        return request.records & -request.records if self._rules.blocks_of_one else request.records

    def _lands(self, rest: World, request: Request, name: str) -> Iterator[Move]:
        block = self._block(request)
        landed, violation = self._landed(rest, request, block)
        left = request.records & ~block
        if left:
            phase = PASSED if self._rules.checked_once else RUNNING
            on = _with(landed, request._replace(records=left, phase=phase))
            yield Move(f"{offsets(block)} of {name} land", False, _WORLD, on, violation)
        else:
            yield from self._answer(landed, request, self._sinks.done, f"{name} lands", violation=violation)

    def _landed(self, world: World, request: Request, block: int) -> tuple[World, Violation | None]:
        records = block << request.fetched_from * self._rules.records
        confused = request.topic != request.fetched_from and not self._rules.coordinates_without_topic
        violation = Violation.CONFUSED if confused else _doubled(world, request.kind, records)
        if request.kind == LETTERS:
            return world._replace(letters=world.letters | records), violation
        return world._replace(rows=world.rows | records), violation

    def _answer(
        self,
        world: World,
        request: Request,
        becomes: Callable[[Sink], Sink],
        label: str,
        *,
        fault: bool = False,
        violation: Violation | None = None,
    ) -> Iterator[Move]:
        """`world`, in which whoever waits for the request has its answer."""
        if request.sender < 0:
            yield Move(label, fault, _WORLD, world, violation)
            return
        for after, took_fault in self._sinks.settled(becomes(world.sinks[request.sender]), world.topic):
            sinks = (after, world.sinks[1]) if request.sender == 0 else (world.sinks[0], after)
            yield Move(label, fault or took_fault, _WORLD, world._replace(sinks=sinks), violation)

    def _failed(self, sink: Sink) -> Sink:
        return self._sinks.failed(sink)

    def _blamed(self, sink: Sink) -> Sink:
        return self._sinks.failed(sink, blamed=True)

    def _repeated(self, world: World, request: Request, name: str) -> Iterator[Move]:
        """Something between the two sends a request again."""
        repeats = self._rules.fence_writes_repeated if request.kind == FENCE_WRITE else self._rules.inserts_repeated
        if repeats and len(world.requests) < self._rules.requests_max:
            yield _fault(f"a proxy sends {name} twice", _with(world, request._replace(sender=-1)))

    def _restart(self, world: World) -> Iterator[Move]:
        """What ran is gone, and so is the fence; what is on its way arrives later."""
        running = [request for request in world.requests if request.kind != FENCE_WRITE and request.phase != SENT]
        if not self._rules.restarts or not (running or any(world.fences)):
            return
        stopped = self._sinks.without(world, running)
        if self._rules.older_fence_returns:
            for owner in sorted({request.owner for request in world.requests} | {sink.owner for sink in world.sinks}):
                yield _fault(f"the warehouse restarts, owner {owner} in its fence", stopped._replace(fences=(owner, owner)))
        else:
            yield _fault("the warehouse restarts with an empty fence", stopped._replace(fences=(NOBODY, NOBODY)))


def _doubled(world: World, kind: int, records: int) -> Violation | None:
    same, other = (world.letters, world.rows) if kind == LETTERS else (world.rows, world.letters)
    if same & records:
        return Violation.LETTER_TWICE if kind == LETTERS else Violation.ROW_TWICE
    return Violation.BOTH if other & records else None


def _with(world: World, request: Request) -> World:
    return world._replace(requests=(*world.requests, request))


def _fault(label: str, world: World) -> Move:
    return Move(label, True, _WORLD, world)


def _name(request: Request) -> str:
    late = "late " if request.sender < 0 else ""
    if request.kind == FENCE_WRITE:
        return f"the {late}fence write of owner {request.owner}"
    what = "dead letters" if request.kind == LETTERS else "rows"
    return f"the {late}insert of {what} {offsets(request.records)} by owner {request.owner}"
