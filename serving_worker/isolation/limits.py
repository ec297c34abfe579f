"""How far a policy may go. Bounds that nobody sets are constants beside what they bound."""

from dataclasses import dataclass, field

NICE = 10
"""A policy's processes give way to the worker."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Of a policy's process. `memory_bytes_max` is of address space; `cpus` empty stands for all."""

    memory_bytes_max: int = 1024 * MIB
    cpus: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """`waiting_max` requests may wait for a process. One that has overrun its deadline may end within `grace_s`, or is killed."""

    processes: int = 2
    waiting_max: int = 32
    grace_s: float = 0.1
    host: HostLimits = field(default_factory=HostLimits)


def parse_cpus(text: str) -> frozenset[int]:
    """`0,2-3` as processors.

    Raises ValueError.
    """
    cpus: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)
