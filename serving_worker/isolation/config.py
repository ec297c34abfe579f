"""Settings of the policies, from TAILRACE_* variables."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint

from schemas.environment import Environment
from schemas.errors import ConfigurationError
from serving_worker.isolation.limits import MIB, HostLimits, PoolLimits, parse_cpus
from serving_worker.rankers.plugins import BUILT_IN, named_rankers


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """`rankers` are import paths by name; `shadow` has shares of the requests by name."""

    rankers: Mapping[str, str] = field(default_factory=lambda: BUILT_IN)
    shadow: Mapping[str, float] = field(default_factory=dict)
    budget_us: int = 100_000
    in_flight_max: int = 256
    pool: PoolLimits = field(default_factory=PoolLimits)

    @classmethod
    def read(cls, read: Environment, installed: Iterable[EntryPoint]) -> "PolicySettings":
        """`installed` are the entry points of the group. What is wrong is added to `read`'s problems."""
        rankers = _rankers(read, installed)
        return cls(
            rankers=rankers,
            shadow=_shares(read, rankers),
            budget_us=read.integer("TAILRACE_REQUEST_BUDGET_MS", 100, minimum=5, maximum=60_000) * 1_000,
            in_flight_max=read.integer("TAILRACE_INFLIGHT_MAX", 256, minimum=1, maximum=100_000),
            pool=PoolLimits(
                processes=read.integer("TAILRACE_POLICY_PROCESSES", 2, minimum=1, maximum=64),
                waiting_max=read.integer("TAILRACE_POLICY_WAITING_MAX", 32, minimum=0, maximum=10_000),
                grace_s=read.integer("TAILRACE_POLICY_GRACE_MS", 100, minimum=0, maximum=60_000) / 1_000,
                host=HostLimits(
                    memory_bytes_max=read.integer("TAILRACE_POLICY_MEMORY_MB_MAX", 1_024, minimum=64, maximum=1_048_576) * MIB,
                    cpus=_cpus(read),
                ),
            ),
        )


def _rankers(read: Environment, installed: Iterable[EntryPoint]) -> Mapping[str, str]:
    try:
        return named_rankers(read.options("TAILRACE_RANKERS"), installed)
    except ConfigurationError as error:
        for problem in error.problems:
            read.problem(problem)
        return BUILT_IN


def _shares(read: Environment, rankers: Mapping[str, str]) -> dict[str, float]:
    """`policy[:share]`, comma-separated; a share that is not said is 1."""
    shares = {}
    for part in filter(None, (part.strip() for part in read.text("TAILRACE_SHADOW_POLICIES", "").split(","))):
        name, _, said = part.partition(":")
        try:
            shares[name] = float(said or 1)
        except ValueError:
            shares[name] = -1.0
        if not 0 < shares[name] <= 1:
            read.problem(f"TAILRACE_SHADOW_POLICIES: the share of {part!r} should be above 0 and 1 at most")
        if name not in rankers:
            read.problem(f"TAILRACE_SHADOW_POLICIES: {name!r} is none of {', '.join(rankers)}")
    return shares


def _cpus(read: Environment) -> frozenset[int]:
    text = read.text("TAILRACE_POLICY_CPUS", "")
    try:
        cpus = parse_cpus(text)
    except ValueError:
        read.problem(f"TAILRACE_POLICY_CPUS={text!r} is not processors, as in 0,2-3")
        return frozenset()
    if missing := cpus - frozenset(range(os.cpu_count() or 1)):  # the worker itself may be kept to others, on purpose
        read.problem(f"TAILRACE_POLICY_CPUS={text!r}: there is no processor {min(missing)}")
    return cpus
