"""What a sink does in each step: the edges of the protocol, as far as another sink or the warehouse can tell.

A step that nobody else can see or disturb is taken together with the one before it (`settled`): a sink that stops between the two
is the same to everyone. So a resting sink stands before its fence write, and one that crashes is a resting one.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from stream_processors.warehouse.protocol import Step
from tests.protocol.table import Table
from tests.protocol.world import (
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
    below,
    fresh_owner,
    offsets,
)


class Result(NamedTuple):
    """How one step may come out: the sink afterwards, and the world around it."""

    label: str
    sink: Sink
    world: World
    fault: bool = False
    violation: Violation | None = None


class Sinks:
    def __init__(self, table: Table, rules: Rules) -> None:
        self._table, self._rules = table, rules
        self._settled: dict[tuple[Sink, int], list[tuple[Sink, bool]]] = {}
        self._steps: dict[Step, Callable[[World, int, Sink], Iterator[Result]]] = {
            Step.REST: self._go_on,
            Step.ASK: self._go_on,
            Step.IDENTIFY: self._identify,
            Step.FENCE: self._fence,
            Step.DRAIN: self._drain,
            Step.RECONCILE: self._reconcile,
            Step.ANNOUNCE: self._announce,
            Step.GATHER: self._gather,
            Step.CONFIRM: self._confirm,
            Step.EXAMINE: self._examine,
            Step.BURY: self._bury,
            Step.PUBLISH: self._publish,
            Step.INSERT: self._insert,
            Step.COMMIT: self._commit,
        }

    def resting(self, topic: int) -> Sink:
        return self.settled(Sink(self._table.start), topic)[0][0]

    def moves(self, world: World, number: int) -> Iterator[Move]:
        sink = world.sinks[number]
        resting = self.resting(world.topic)
        if sink != resting:
            yield Move(f"sink {number} crashes, or loses the partition", True, number, _forgotten(world, number, resting))
        for result in self._results(world, number, sink):
            for after, fault in self.settled(result.sink, world.topic):
                moved = _placed(result.world, number, after)
                yield Move(f"sink {number} {result.label}", result.fault or fault, number, moved, result.violation)

    def done(self, sink: Sink) -> Sink:
        """The sink after its step ended clean."""
        where = self._table.after(sink.where, "done")
        if self._table.steps[where] is Step.GATHER:
            return Sink(where, topic=sink.topic, first=sink.end, end=sink.end, present=sink.present, owner=sink.owner)
        return sink._replace(where=where, waiting=0)

    def failed(self, sink: Sink, *, blamed: bool = False) -> Sink:
        """The sink after its step did not: it knows nothing but its batch, wherever the table leads back to the beginning."""
        where = self._table.after(sink.where, "blamed" if blamed else "failed")
        looks = 1 if blamed else sink.looks
        if self._table.steps[where] not in (Step.REST, Step.ASK):
            return sink._replace(where=where, waiting=0, looks=looks)
        owner = sink.owner if self._keeps_owner(sink) else NOBODY
        if not self._table.states[where].batch_in_hand:
            return Sink(where, owner=owner)
        kept = Sink(where, topic=sink.topic, first=sink.first, end=sink.end, fetched_from=sink.fetched_from)
        return kept._replace(looks=looks, owner=owner)

    def settled(self, sink: Sink, topic: int) -> list[tuple[Sink, bool]]:
        """Where the sink may stand after the steps that nobody sees, each with whether it took a fault; without one first."""
        key = (sink, topic)
        if key not in self._settled:
            self._settled[key] = list(self._unseen(sink, topic, set()))
        return self._settled[key]

    def _unseen(self, sink: Sink, topic: int, met: set[Sink]) -> Iterator[tuple[Sink, bool]]:
        if sink in met:
            return
        met.add(sink)
        if not self._nobody_sees(sink):
            yield sink, False
            return
        for result in self._results(World((sink, sink), topic=topic), 0, sink):
            for after, fault in self._unseen(result.sink, topic, met):
                yield after, result.fault or fault

    def _nobody_sees(self, sink: Sink) -> bool:
        match self._table.steps[sink.where]:
            case Step.REST | Step.ASK:
                return True
            case Step.IDENTIFY | Step.CONFIRM:
                return not self._rules.recreates
            case Step.GATHER:
                return not self._rules.recreates and sink.end < self._rules.records
            case Step.EXAMINE:
                return not (self._rules.flips and sink.looks)
            case Step.ANNOUNCE:
                return not sink.found
            case _:
                return False

    def _results(self, world: World, number: int, sink: Sink) -> Iterator[Result]:
        step = self._table.steps[sink.where]
        if sink.waiting and step is not Step.RECONCILE:
            return
        yield from self._steps[step](world, number, sink)
        yield Result(f"fails in {step.name}", self.failed(sink), world, fault=True)

    def _keeps_owner(self, sink: Sink) -> bool:
        unanswered = self._rules.owner_kept_after_no_answer and self._table.steps[sink.where] is Step.FENCE
        return self._rules.owner_kept_for_life or unanswered

    # The steps.

    def _go_on(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        yield Result("goes on", self.done(sink), world)

    def _identify(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        """A batch that was fetched from the topic before is given up with it."""
        strange = self._table.states[sink.where].batch_in_hand and world.topic != sink.topic
        if strange and not self._rules.batch_outlives_topic:
            yield Result(f"sees topic {world.topic}, which its batch is not of", self.failed(sink), world)
        else:
            yield Result(f"sees topic {world.topic}", self.done(sink._replace(topic=world.topic)), world)

    def _fence(self, world: World, number: int, sink: Sink) -> Iterator[Result]:
        if len(world.requests) < self._rules.requests_max:
            owner = sink.owner if self._rules.owners_return and sink.owner else fresh_owner(world)
            request = Request(FENCE_WRITE, SENT, number, sink.topic, owner=owner)
            yield self._sent(world, sink._replace(owner=owner), request, f"writes the fence: owner {owner}")

    def _drain(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        run = [request for request in world.requests if self._runs(request, sink)]
        if not run:
            yield Result("drains: nothing runs", self.done(sink), world)
        elif self._rules.kills:
            yield Result("kills what runs", sink, self.without(world, run))

    def _runs(self, request: Request, sink: Sink) -> bool:
        ours = request.topic == sink.topic or self._rules.coordinates_without_topic
        return ours and request.kind != FENCE_WRITE and request.phase in (RUNNING, PASSED)

    def _reconcile(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        if sink.waiting:
            yield self._reads_letters(world, sink, sink.present, (~sink.present & sink.present + 1).bit_length() - 1)
            return
        for committed in self._commits(world, sink.topic):
            in_hand = self._table.states[sink.where].batch_in_hand
            started = sink if in_hand else sink._replace(first=committed, end=committed)
            proven = 0 if self._rules.batch_ignores_commits else below(committed)
            rows = self._of_topic(world.rows, sink.topic) & ~below(committed) | proven
            if self._rules.reads_apart:
                label = f"reads committed {committed}, rows {offsets(rows & ~proven)}"
                yield Result(label, started._replace(waiting=1, present=rows), world)
            else:
                yield self._reads_letters(world, started, rows, committed)

    def _commits(self, world: World, topic: int) -> list[int]:
        """What the group may answer: any commit that was ever issued for the topic, or none (the log's start)."""
        ends = self._rules.records + 1
        topics = (0, 1) if self._rules.commit_without_topic else (topic,)
        return [0] + [end for end in range(1, ends) if any(world.issued >> of * ends + end & 1 for of in topics)]

    def _reads_letters(self, world: World, sink: Sink, present: int, committed: int) -> Result:
        letters = self._of_topic(world.letters, sink.topic) & ~below(committed)
        known = (present | letters) & ~below(sink.first)
        label = f"reconciles from {committed}: {offsets(known)} need not go in"
        return Result(label, self.done(sink._replace(present=known, found=letters)), world)

    def _announce(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        told = world._replace(announced=world.announced | self._in_world(sink.found, sink.topic))
        after = sink._replace(found=0)
        yield Result(f"announces what it found: {offsets(sink.found)}", self.done(after), told)
        if sink.found:
            yield Result("announces, and hears nothing", self.failed(after), told, fault=True)

    def _gather(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        records, first = self._rules.records, sink.end
        full = min(first + self._rules.batch_records, records)
        for end in range(first + 1 if self._rules.short_batches else full, full + 1):
            if end > first:
                present = sink.present & ~below(first)
                batch = sink._replace(first=first, end=end, fetched_from=world.topic, present=present)
                yield Result(f"fetches {list(range(first, end))} of topic {world.topic}", self.done(batch), world)
        if world.topic != sink.topic:
            yield Result("loses the partition: its topic is gone", self.failed(sink), world)

    def _confirm(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        if world.topic == sink.topic:
            yield Result("sees that the topic is the same", self.done(sink), world)
        else:
            yield Result("sees another topic", self.failed(sink), world)

    def _examine(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        todo = below(sink.end) & ~below(sink.first) & ~sink.present
        searched = self._rules.poison if sink.looks and not world.readable else 0
        bad = todo & (self._rules.misframed | searched)
        burials, inserts = self._grouped(bad), self._grouped(todo & ~bad)
        where = self._table.examined(sink.where, len(burials), len(inserts))
        label = f"examines its batch: to bury {offsets(bad)}, to insert {offsets(todo & ~bad)}"
        yield Result(label, sink._replace(where=where, burials=burials, inserts=inserts), world)

    def _grouped(self, records: int) -> tuple[int, ...]:
        groups: dict[int, int] = {}
        for offset in offsets(records):
            group = self._rules.groups[offset]
            groups[group] = groups.get(group, 0) | 1 << offset
        return tuple([groups[group] for group in sorted(groups)])

    def _bury(self, world: World, number: int, sink: Sink) -> Iterator[Result]:
        letters = sink.burials[-self._table.states[sink.where].burials]
        yield from self._writes(world, number, sink, LETTERS, letters)

    def _insert(self, world: World, number: int, sink: Sink) -> Iterator[Result]:
        rows = sink.inserts[-self._table.states[sink.where].inserts]
        yield from self._writes(world, number, sink, ROWS, rows)

    def _writes(self, world: World, number: int, sink: Sink, kind: int, records: int) -> Iterator[Result]:
        if len(world.requests) < self._rules.requests_max:
            request = Request(kind, SENT, number, sink.topic, sink.fetched_from, records, sink.owner)
            what = "dead letters" if kind == LETTERS else "rows"
            yield self._sent(world, sink, request, f"posts {what} {offsets(records)} as owner {sink.owner}")

    def _publish(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        letters = self._in_world(sum(sink.burials), sink.topic)
        told = world._replace(announced=world.announced | letters)
        violation = Violation.FALSE_ALARM if letters & ~world.letters else None
        yield Result(f"publishes {offsets(sum(sink.burials))}", self.done(sink), told, violation=violation)
        yield Result("publishes, and hears nothing", self.failed(sink), told, fault=True, violation=violation)

    def _commit(self, world: World, _number: int, sink: Sink) -> Iterator[Result]:
        told = world._replace(issued=world.issued | 1 << sink.topic * (self._rules.records + 1) + sink.end)
        violation = self._untrue(world, sink)
        yield Result(f"commits {sink.end}", self.done(sink), told, violation=violation)
        yield Result(f"commits {sink.end}, and hears nothing", self.failed(sink), told, fault=True, violation=violation)

    def _untrue(self, world: World, sink: Sink) -> Violation | None:
        covered = self._in_world(below(sink.end), sink.topic)
        if covered & ~(world.rows | world.letters):
            return Violation.LOST
        return Violation.UNANNOUNCED if covered & world.letters & ~world.announced else None

    # Sets of offsets, in one topic's terms and in the world's.

    def _in_world(self, records: int, topic: int) -> int:
        return records << topic * self._rules.records

    def _of_topic(self, records: int, topic: int) -> int:
        shift = topic * self._rules.records
        if self._rules.coordinates_without_topic:
            records, shift = records | records >> self._rules.records, 0
        return records >> shift & below(self._rules.records)

    # What becomes of requests.

    def _sent(self, world: World, sink: Sink, request: Request, label: str) -> Result:
        return Result(label, sink._replace(waiting=1), world._replace(requests=(*world.requests, request)))

    def without(self, world: World, ended: list[Request]) -> World:
        """The world without some requests; who waits for one of them gets an unclean answer."""
        sinks = list(world.sinks)
        for request in ended:
            if request.sender >= 0:
                sinks[request.sender] = self.settled(self.failed(sinks[request.sender]), world.topic)[0][0]
        kept = tuple([request for request in world.requests if request not in ended])
        return world._replace(sinks=(sinks[0], sinks[1]), requests=kept)


def _placed(world: World, number: int, sink: Sink) -> World:
    return world._replace(sinks=(sink, world.sinks[1]) if number == 0 else (world.sinks[0], sink))


def _forgotten(world: World, number: int, resting: Sink) -> World:
    """What the sink has sent goes on without it."""
    requests = [request._replace(sender=-1) if request.sender == number else request for request in world.requests]
    return _placed(world._replace(requests=tuple(requests)), number, resting)
