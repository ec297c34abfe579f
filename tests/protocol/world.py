"""The model's world: one partition, two sinks that want it, and every request that is under way. Values only.

States are kept and compared by the hundred thousand, so they are tuples of small numbers. A set of offsets is a bit mask: bit `o`
stands for the record at offset `o`. Where two topics of one name follow each other, the second one's bits stand `records` higher.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import permutations
from typing import NamedTuple, TypeVar

NOBODY = 0
"""What the fence says after a restart of the warehouse, and an owner that no sink ever was."""

# Kinds of requests.
FENCE_WRITE, ROWS, LETTERS = range(3)
# Where an insert is: on its way, checked too early (in a broken world), running, past the check of its next block.
SENT, ADMITTED, RUNNING, PASSED = range(4)


class Violation(Enum):
    """What must never happen."""

    ROW_TWICE = "a record is there twice as a row"
    LETTER_TWICE = "a record is there twice as a dead letter"
    BOTH = "a record is there as a row and as a dead letter"
    LOST = "an offset is committed past a record that is not there"
    UNANNOUNCED = "an offset is committed past a dead letter that its topic does not have"
    FALSE_ALARM = "the topic has a dead letter that the table has not"
    CONFUSED = "a record of one topic is there under the coordinates of another"
    STUCK = "no continuation without faults brings everything in"


class Sink(NamedTuple):
    """One process. `where` numbers a state of the protocol's table; all zero but that is one that knows nothing."""

    where: int = 0
    waiting: int = 0
    """1 while the step's request has no answer, or half of what it reads is read."""
    topic: int = 0
    first: int = 0
    end: int = 0
    """The batch in hand is [first, end); without one both are the next offset to fetch."""
    fetched_from: int = 0
    present: int = 0
    """Offsets that need not be inserted, as far as it matters from `first` on."""
    found: int = 0
    """Dead letters that were found, and are to be announced."""
    burials: tuple[int, ...] = ()
    inserts: tuple[int, ...] = ()
    looks: int = 0
    """1 after a refusal that blames the data: the batch is searched for poison."""
    owner: int = NOBODY


class Request(NamedTuple):
    """A write under way. `sender` is the sink that waits for its answer, -1 where nobody does."""

    kind: int
    phase: int
    sender: int
    topic: int
    fetched_from: int = 0
    records: int = 0
    owner: int = NOBODY


class World(NamedTuple):
    sinks: tuple[Sink, Sink]
    fences: tuple[int, ...] = (NOBODY, NOBODY)
    """The owner by topic."""
    requests: tuple[Request, ...] = ()
    rows: int = 0
    letters: int = 0
    announced: int = 0
    """What is in the topic of dead letters."""
    issued: int = 0
    """Every commit that was ever issued, as a bit; which of them the group remembers, if any, is anybody's guess."""
    topic: int = 0
    """The topic that goes by the name now."""
    readable: int = 0
    """1 while the warehouse can take what it calls poison at other times (an upgrade, a migration)."""


class Move(NamedTuple):
    """One thing that can happen. `fault`: progress may not count on it. `actor`: the sink that does it, -1 for the world."""

    label: str
    fault: bool
    actor: int
    world: World
    violation: Violation | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How large a configuration is, which faults it has, and which of the world's or the edges' rules are broken."""

    groups: tuple[int, ...] = (0, 0, 1)
    """The insert that each record of a batch belongs to: one a schema and day."""
    poison: int = 0b010
    misframed: int = 0
    """Poison that is known without asking the warehouse."""
    batch_records: int = 2
    short_batches: bool = False
    """Batches end anywhere, not only when they are full."""
    requests_max: int = 3
    flips: bool = True
    """Poison turns readable and back."""
    kills: bool = True
    restarts: bool = True
    recreates: bool = False
    blocks_of_one: bool = False
    """Each record is a block of its own, checked and landed by itself."""
    reads_apart: bool = False
    """Rows and dead letters are read one after the other in the reconciliation."""
    alone: bool = False
    """Progress has to be possible with the second sink stopped for ever."""

    guard_missing: bool = False
    checked_before_running: bool = False
    checked_once: bool = False
    """Only an insert's first block is checked."""
    older_fence_returns: bool = False
    inserts_repeated: bool = False
    fence_writes_repeated: bool = False
    owner_kept_after_no_answer: bool = False
    owner_kept_for_life: bool = False
    commit_without_topic: bool = False
    coordinates_without_topic: bool = False
    batch_outlives_topic: bool = False
    """A batch is delivered again though the topic was made anew meanwhile."""
    batch_ignores_commits: bool = False
    """A batch is filtered by what was read from the committed offset on, and not by that offset."""

    @property
    def records(self) -> int:
        return len(self.groups)

    @property
    def owners_return(self) -> bool:
        """Whether an owner that the fence has forgotten may still be let in."""
        return self.guard_missing or self.older_fence_returns or self.owner_kept_after_no_answer or self.owner_kept_for_life


def offsets(mask: int) -> list[int]:
    return [offset for offset in range(mask.bit_length()) if mask >> offset & 1]


def below(offset: int) -> int:
    return (1 << offset) - 1


SHUT_OUT = -1
"""The name of every owner that no insert can pass under any more."""


def without_the_hopeless(world: World, rules: Rules) -> World:
    """An insert that is certain to be refused, and that nobody waits for, might as well be over."""
    if rules.owners_return or not world.requests:
        return world
    living = _living(world)
    return world._replace(requests=tuple([request for request in world.requests if _matters(request, living)]))


def canonical(world: World, rules: Rules, *, alike: bool = True) -> World:
    """One world for all that differ in the names of owners, the order of requests, or which sink is which."""
    world = without_the_hopeless(world, rules)
    living = None if rules.owners_return else _living(world)
    first, second = world.sinks[0][:-1], world.sinks[1][:-1]
    if not alike or first < second:
        return _named(world, living)
    if first == second:
        return min(_named(world, living), _named(_swapped(world), living))
    return _named(_swapped(world), living)


def _living(world: World) -> set[int]:
    """Owners that stand in the fence, or may come to."""
    return {request.owner for request in world.requests if request.kind == FENCE_WRITE}.union(world.fences)


def _matters(request: Request, living: set[int]) -> bool:
    return request.owner in living or request.sender >= 0 or request.phase in (ADMITTED, PASSED)


def _swapped(world: World) -> World:
    requests = [request._replace(sender=1 - request.sender) if request.sender >= 0 else request for request in world.requests]
    return world._replace(sinks=(world.sinks[1], world.sinks[0]), requests=tuple(requests))


def _named(world: World, living: set[int] | None) -> World:
    """With owners by number, in the order in which they stand in the world; where requests alone know them, the least way."""
    names = {NOBODY: NOBODY, SHUT_OUT: SHUT_OUT}
    first, second = world.sinks
    _name(names, (*world.fences, first.owner, second.owner), living)
    unnamed = sorted({request.owner for request in world.requests} - names.keys())
    sinks = (_renamed(first, names), _renamed(second, names))
    fences = tuple([names[owner] for owner in world.fences])
    requests = min([_named_requests(world.requests, names, order, living) for order in permutations(unnamed)])
    return World(sinks, fences, requests, *world[3:])


def _named_requests(
    requests: tuple[Request, ...], names: dict[int, int], order: tuple[int, ...], living: set[int] | None
) -> tuple[Request, ...]:
    if order:
        names = dict(names)
        _name(names, order, living)
    return tuple(sorted([_renamed(request, names) for request in requests]))


def _name(names: dict[int, int], owners: tuple[int, ...], living: set[int] | None) -> None:
    for owner in owners:
        if owner not in names:
            names[owner] = max(names.values()) + 1 if living is None or owner in living else SHUT_OUT


Owned = TypeVar("Owned", Sink, Request)


def _renamed(owned: Owned, names: dict[int, int]) -> Owned:
    name = names[owned.owner]
    return owned if name == owned.owner else owned._replace(owner=name)


def fresh_owner(world: World) -> int:
    """One that stands nowhere in the world."""
    named = [request.owner for request in world.requests]
    return 1 + max(*world.fences, world.sinks[0].owner, world.sinks[1].owner, *named, NOBODY)
