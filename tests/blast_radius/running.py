"""Rounds of blocks: every condition once a round, in a drawn order."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.blast_radius.arms import DEEDS, control_places
from tests.blast_radius.disturbances import DISK_HANGING, disturbances, misbehaving
from tests.blast_radius.figures import AGAIN, BEHAVED, BEHAVED_AGAIN, UNTOUCHED
from tests.blast_radius.ground import Ground
from tests.blast_radius.load import Block
from tests.blast_radius.workers import Load, Worker

SILENT = "no emission"
WARM_UP = Load(200.0, 3.0)
STOLEN_SHARE_MAX = 0.01
TRIES = 3
"""A block of whose core the machine's host took more is made again, so often at most; the one with the least counts. Of what is
measured nothing has a say in it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`base` is what it is compared with. With `other_arm_only`, only the control arm's requests are: the others are degraded."""

    worker: Callable[[Ground], Worker]
    disturbance: Callable[[Ground], AbstractContextManager[None]]
    base: str = UNTOUCHED
    other_arm_only: bool = False


def conditions(only: Sequence[str] = ()) -> dict[str, Condition]:
    """Those named, or all. The undisturbed ones are always there."""
    known = {name: Condition(_emitting, disturbance) for name, disturbance in disturbances().items()}
    known |= {name: Condition(_arms, misbehaving(act), BEHAVED, other_arm_only=True) for name, act in DEEDS.items()}
    if unknown := set(only) - known.keys():
        raise ValueError(f"there is no disturbance {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    undisturbed = {
        UNTOUCHED: Condition(_emitting, _nothing),
        AGAIN: Condition(_emitting, _nothing),
        SILENT: Condition(lambda ground: ground.silent, _nothing),
        BEHAVED: Condition(_arms, _nothing, BEHAVED, other_arm_only=True),
        BEHAVED_AGAIN: Condition(_arms, _nothing, BEHAVED, other_arm_only=True),
    }
    return undisturbed | {name: known[name] for name in only or known}


def rounds(ground: Ground, load: Load, wanted: Mapping[str, Condition], count: int, seed: int) -> Iterator[dict[str, Block]]:
    draw = random.Random(seed)
    for worker in (ground.emitting, ground.silent, ground.arms):
        ground.block(worker, WARM_UP)
    for _ in range(count):
        possible = [name for name in wanted if ground.disk is not None or name != DISK_HANGING]
        found = {name: _calm_block(ground, load, wanted[name]) for name in draw.sample(possible, len(possible))}
        yield {name: found[name] for name in possible}


def compared(ground: Ground, rounds: Sequence[Mapping[str, Block]], wanted: Mapping[str, Condition]) -> list[dict[str, Block]]:
    """The blocks as far as they are compared."""
    places = control_places(ground.experiments, len(rounds[0][UNTOUCHED].statuses))
    return [
        {name: block.only(places) if wanted[name].other_arm_only else block for name, block in found.items()} for found in rounds
    ]


def _calm_block(ground: Ground, load: Load, condition: Condition) -> Block:
    blocks: list[Block] = []
    while len(blocks) < TRIES and all(block.stolen_share > STOLEN_SHARE_MAX for block in blocks):
        blocks.append(_block(ground, load, condition))
    return min(blocks, key=lambda block: block.stolen_share)


def _block(ground: Ground, load: Load, condition: Condition) -> Block:
    with condition.disturbance(ground):
        return ground.block(condition.worker(ground), load)


def _emitting(ground: Ground) -> Worker:
    return ground.emitting


def _arms(ground: Ground) -> Worker:
    return ground.arms


def _nothing(_ground: Ground) -> AbstractContextManager[None]:
    return nullcontext()
