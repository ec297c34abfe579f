"""Rounds of blocks: every condition once a round, in a drawn order."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from tests.blast_radius.disturbances import disturbances
from tests.blast_radius.figures import AGAIN, UNTOUCHED
from tests.blast_radius.ground import Ground, Load
from tests.blast_radius.load import Block

SILENT = "no emission"
WARM_UP = Load(200.0, 3.0)

Disturbance = Callable[[Ground], AbstractContextManager[None]]


def conditions(only: Sequence[str]) -> Mapping[str, Disturbance]:
    """Those named, or all. The undisturbed ones are always there."""
    known = disturbances()
    if unknown := set(only) - known.keys():
        raise ValueError(f"there is no disturbance {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    undisturbed: dict[str, Disturbance] = dict.fromkeys((UNTOUCHED, AGAIN, SILENT), lambda _ground: nullcontext())
    return undisturbed | {name: known[name] for name in only or known}


def rounds(ground: Ground, load: Load, wanted: Mapping[str, Disturbance], count: int, seed: int) -> Iterator[dict[str, Block]]:
    draw = random.Random(seed)
    for worker in (ground.emitting, ground.silent):
        ground.block(worker, WARM_UP)
    for _ in range(count):
        order = draw.sample(list(wanted), len(wanted))
        found = {name: _block(ground, load, name, wanted[name]) for name in order}
        yield {name: found[name] for name in wanted}


def _block(ground: Ground, load: Load, name: str, disturbance: Disturbance) -> Block:
    worker = ground.silent if name == SILENT else ground.emitting
    with disturbance(ground):
        return ground.block(worker, load)
